"""One label map from binary masks that may overlap.

The rule: where structures overlap, the smallest one of the case (fewest voxels in its whole mask) keeps the voxels, and
of two equally large ones that with the lower value. So a tumour stays in its organ, in whichever order masks come.
"""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_MAX_LISTED = 5
_N_VALUES = np.iinfo(np.uint16).max + 1


class Mask(NamedTuple):
    """One structure."""

    name: str
    value: int
    """In the label map."""
    array: NDArray[np.bool_]
    """Mask (x, y, z)."""
    start: tuple[int, int, int] = (0, 0, 0)
    """Where its first voxel lies in the label map; a part is enough if it holds the whole structure."""


def merge_masks(masks: Iterable[Mask], shape: tuple[int, int, int]) -> tuple[NDArray[np.uint16], tuple[str, ...]]:
    """Label map of masks that are looked at one after the other, so that they need not all be in memory.

    Args:
        masks: of each structure, with a value of its own.
        shape: of the label map.

    Returns:
        Labels (x, y, z), 0 where no mask is; and a note on the overlaps, if there are any.
    """
    labels = np.zeros(shape, np.uint16, order="F")  # slice after slice, as image files have it
    contested = np.zeros(shape, np.bool_, order="F")
    names: dict[int, str] = {}
    sizes: dict[int, int] = {}
    pairs: set[tuple[int, int]] = set()
    for name, value, array, start in masks:
        names[value], sizes[value] = name, int(np.count_nonzero(array))
        gives_way = np.zeros(_N_VALUES, np.bool_)
        gives_way[[other for other in sizes if (sizes[other], other) > (sizes[value], value)]] = True
        gives_way[0] = True
        box = tuple(slice(first, first + side) for first, side in zip(start, array.shape, strict=True))
        others = _paint(array, value, labels[box], contested[box], gives_way)
        pairs |= {(other, value) for other in others}
    if not pairs:
        return labels, ()
    listed = ", ".join(f"{names[one]}/{names[other]}" for one, other in sorted(pairs)[:_MAX_LISTED])
    more = f" and {len(pairs) - _MAX_LISTED} more pairs" if len(pairs) > _MAX_LISTED else ""
    count = int(np.count_nonzero(contested))
    return labels, (f"{count} voxels are in several masks ({listed}{more}), the smallest structure keeps them",)


def _paint(
    mask: NDArray[np.bool_],
    value: int,
    labels: NDArray[np.uint16],
    contested: NDArray[np.bool_],
    gives_way: NDArray[np.bool_],
) -> set[int]:
    """Write a value into views of equal shape, where what is there gives way; gives the values that were there."""
    others: set[int] = set()
    for z in range(mask.shape[2]):  # slice by slice: a mask of a whole body would need many bytes per voxel
        inside = mask[..., z]
        there = labels[inside, z]  # (n,)
        if there.any():
            others |= set(np.flatnonzero(np.bincount(there)).tolist()) - {0}
            contested[..., z] |= inside & (labels[..., z] > 0)
        labels[inside, z] = np.where(gives_way[there], np.uint16(value), there)
    return others
