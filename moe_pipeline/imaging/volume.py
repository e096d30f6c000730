"""An array together with its place in the patient."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moe_pipeline.errors import GeometryError
from moe_pipeline.imaging.geometry import Box, Geometry


@dataclass(frozen=True, slots=True, eq=False)
class Volume:
    """One channel of voxels, (x, y, z), and the grid they lie on."""

    array: NDArray[Any]
    geometry: Geometry

    def __post_init__(self) -> None:
        if not isinstance(self.array, np.ndarray) or self.array.shape != self.geometry.shape:
            found = getattr(self.array, "shape", type(self.array).__name__)
            raise GeometryError(f"array of shape {found} does not fill its grid of shape {self.geometry.shape}")


def to_canonical(volume: Volume) -> Volume:
    """The same voxels at the same places, with axes running closest to R, A and S. The array is a view."""
    order, flipped = volume.geometry.canonical_axes()
    return Volume(_reversed(volume.array.transpose(order), flipped), volume.geometry.canonical())


def to_grid_orientation(volume: Volume, native: Geometry) -> Volume:
    """The exact inverse of `to_canonical` for an image that lay on `native`. The array is a view.

    Raises:
        GeometryError: if the volume does not lie on the canonical form of `native`.
    """
    faults = volume.geometry.differences(native.canonical())
    if faults:
        raise GeometryError(f"the volume does not lie on the grid it is meant for: {'; '.join(faults)}")
    order, flipped = native.canonical_axes()
    back = np.argsort(order)
    return Volume(_reversed(volume.array, flipped).transpose(back), native)


@dataclass(frozen=True, slots=True, eq=False)
class LoadedImage:
    """An image that was read and turned once.

    Attributes:
        volume: in canonical orientation.
        native: the grid it is stored on.
    """

    volume: Volume
    native: Geometry

    @classmethod
    def of(cls, stored: Volume) -> "LoadedImage":
        """From voxels as they are stored."""
        return cls(to_canonical(stored), stored.geometry)

    def as_stored(self, found: Volume) -> Volume:
        """A canonical volume over this image, such as its label map, on the grid that the image is stored on."""
        return to_grid_orientation(found, self.native)

    def as_stored_image(self) -> Volume:
        """Its voxels on the grid that it is stored on."""
        return self.as_stored(self.volume)

    def part_as_stored(self, part: NDArray[Any]) -> NDArray[Any]:
        """Voxels of a box of the canonical grid, (x, y, z), in the axis order of the file. A view."""
        order, flipped = self.native.canonical_axes()
        return _reversed(part, flipped).transpose(np.argsort(order))

    def box_as_stored(self, box: Box) -> Box:
        """A box of the canonical grid in voxels of the file."""
        order, flipped = self.native.canonical_axes()
        turned = self._turned(box, flipped)
        x, y, z = (turned[axis] for axis in np.argsort(order))
        return x, y, z

    def box_as_canonical(self, box: Box) -> Box:
        """The inverse of `box_as_stored`."""
        order, flipped = self.native.canonical_axes()
        first, second, third = (box[axis] for axis in order)
        return self._turned((first, second, third), flipped)

    def _turned(self, box: Box, flipped: tuple[bool, bool, bool]) -> Box:
        sides = zip(box, flipped, self.volume.geometry.shape, strict=True)
        x, y, z = ((n - stop, n - start) if reverse else (start, stop) for (start, stop), reverse, n in sides)
        return x, y, z


def _reversed(array: NDArray[Any], flipped: tuple[bool, bool, bool]) -> NDArray[Any]:
    return array[tuple(slice(None, None, -1 if reverse else 1) for reverse in flipped)]
