"""Pixels whose centres lie inside closed lines, by the even-odd rule."""

from collections.abc import Iterable, Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray


def fill(outlines: Iterable[NDArray[np.float64]], shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Pixels inside an odd number of outlines: a line inside another one is a hole, and a keyhole stays open.

    A centre that lies exactly on a line is inside where the inside follows in the direction of growing indices, so that
    areas that share a border share no pixel and leave none out.

    Args:
        outlines: corners (n, 2) of each closed line, in pixels along x and y; whole numbers are pixel centres.
        shape: pixels along x and y.

    Returns:
        Mask (x, y).
    """
    n_x, n_y = shape
    toggles = np.zeros((n_x + 1, n_y), np.int32)  # parity changes from this x on; the last is beyond the grid
    for outline in outlines:
        x, y = _crossings(outline, n_y)
        first = np.clip(np.ceil(x), 0, n_x).astype(np.int64)  # (m,)
        np.add.at(toggles, (first, y), 1)
    return (np.cumsum(toggles[:-1], axis=0) % 2).astype(bool)


_NESTED = 0.9  # of the smaller area; holes are drawn a little over the border now and then


def fill_nested(outlines: Sequence[NDArray[np.float64]], shape: tuple[int, int]) -> tuple[NDArray[np.bool_], bool]:
    """As `fill`, but outlines that cross, instead of one lying inside the other, are joined.

    Args:
        outlines: as for `fill`; one that encloses the same pixels as another counts once.
        shape: pixels along x and y.

    Returns:
        Mask (x, y), and whether any outlines cross.
    """
    if len(outlines) == 1:
        return fill(outlines, shape), False
    masks = [fill([outline], shape) for outline in outlines]
    masks = [mask for number, mask in enumerate(masks) if not any(np.array_equal(mask, one) for one in masks[:number])]
    group = list(range(len(masks)))  # of outlines that cross, by the first of them
    for one, other in combinations(range(len(masks)), 2):
        common = int(np.count_nonzero(masks[one] & masks[other]))
        smaller = min(np.count_nonzero(masks[one]), np.count_nonzero(masks[other]))
        if 0 < common < _NESTED * smaller:
            group = [group[one] if number == group[other] else number for number in group]
    joined = [
        np.any([masks[n] for n in range(len(masks)) if group[n] == first], axis=0) for first in sorted(set(group))
    ]
    inside = np.zeros(shape, bool)
    for mask in joined:
        inside ^= mask
    return inside, len(joined) < len(masks)


def _crossings(outline: NDArray[np.float64], n_y: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Where a closed line crosses rows of pixel centres: x of each crossing (m,) and its row (m,)."""
    ends = np.roll(outline, -1, axis=0)  # (n, 2)
    upwards = outline[:, 1] <= ends[:, 1]
    low = np.where(upwards[:, None], outline, ends)
    high = np.where(upwards[:, None], ends, outline)
    first = np.clip(np.ceil(low[:, 1]), 0, n_y).astype(np.int64)  # rows with low <= y < high
    stop = np.clip(np.ceil(high[:, 1]), 0, n_y).astype(np.int64)
    counts = stop - first
    edge = np.repeat(np.arange(len(outline)), counts)  # (m,)
    rows = np.arange(len(edge)) - np.repeat(np.cumsum(counts) - counts, counts) + first[edge]
    start, end = low[edge], high[edge]  # (m, 2)
    along = (rows - start[:, 1]) / (end[:, 1] - start[:, 1])
    return start[:, 0] + along * (end[:, 0] - start[:, 0]), rows
