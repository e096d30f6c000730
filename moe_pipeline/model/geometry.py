"""Sides of what goes into a foundation and comes out of it."""

from dataclasses import dataclass
from math import prod

Sides = tuple[int, int, int]
"""Numbers of voxels or tokens along x, y and z, the tensor axes of a crop."""


@dataclass(frozen=True, slots=True)
class FoundationGeometry:
    """How a crop, its tokens and its logits lie on each other; each axis by itself."""

    crop_size: Sides
    """Voxels of the crop that is encoded."""
    grid_size: Sides
    """Tokens of the embedding; divides the low-resolution voxels."""
    low_resolution_size: Sides
    """Low-resolution voxels: those of the decoder's logits and of a mask prompt; divides the crop."""

    def __post_init__(self) -> None:
        for axis, (voxels, tokens, low) in enumerate(
            zip(self.crop_size, self.grid_size, self.low_resolution_size, strict=True)
        ):
            if min(voxels, tokens) < 1 or low < 2 or voxels % low or low % tokens:
                raise ValueError(
                    f"axis {axis}: {voxels} voxels, {low} low-resolution voxels (at least 2) and {tokens} tokens have "
                    "to be multiples of each other, in this order"
                )

    @classmethod
    def of_cubes(cls, crop: int, grid: int, low_resolution: int) -> "FoundationGeometry":
        """The same along all axes."""
        return cls((crop,) * 3, (grid,) * 3, (low_resolution,) * 3)

    @property
    def n_tokens(self) -> int:
        """Tokens of an embedding."""
        return prod(self.grid_size)
