"""One label map from binary masks that may overlap.

The rule: where structures overlap, the smallest one of the case (fewest voxels in its whole mask) keeps the voxels, and
of two equally large ones that with the lower value. So a tumour stays in its organ, in whichever order masks come.
"""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

_MAX_LISTED = 5


def merge_masks(
    masks: Iterable[tuple[str, int, NDArray[np.bool_]]], shape: tuple[int, int, int]
) -> tuple[NDArray[np.uint16], tuple[str, ...]]:
    """Label map of masks that are looked at one after the other, so that they need not all be in memory.

    Args:
        masks: name, value and mask (x, y, z) of each structure.
        shape: of every mask.

    Returns:
        Labels (x, y, z), 0 where no mask is; and a note on the overlaps, if there are any.
    """
    labels = np.zeros(shape, np.uint16)
    contested = np.zeros(shape, np.bool_)
    names: dict[int, str] = {}
    sizes = np.zeros(np.iinfo(np.uint16).max + 1, np.int64)  # by value
    pairs: set[tuple[int, int]] = set()
    for name, value, mask in masks:
        names[value], sizes[value] = name, np.count_nonzero(mask)
        there = labels[mask]  # (n,)
        pairs |= {(int(other), value) for other in np.unique(there) if other > 0}
        contested[mask] |= there > 0
        wins = (there == 0) | (sizes[value] < sizes[there]) | ((sizes[value] == sizes[there]) & (value < there))
        labels[mask] = np.where(wins, value, there)
    if not pairs:
        return labels, ()
    listed = ", ".join(f"{names[one]}/{names[other]}" for one, other in sorted(pairs)[:_MAX_LISTED])
    more = f" and {len(pairs) - _MAX_LISTED} more pairs" if len(pairs) > _MAX_LISTED else ""
    count = int(np.count_nonzero(contested))
    return labels, (f"{count} voxels are in several masks ({listed}{more}), the smallest structure keeps them",)
