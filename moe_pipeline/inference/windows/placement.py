"""As few windows as will show every prompt of a case well: each window costs an encoding."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from moe_pipeline.imaging.crop_grid import CropGrid, WindowIndex

_MOST_PER_AXIS = 24  # candidate positions; beyond, every so manieth is tried


def plan_windows(crop_grid: CropGrid, prompts_mm: Sequence[NDArray[np.float64]]) -> list[WindowIndex]:
    """A window for each prompt.

    Greedy: the window that shows most of the prompts left, moved to the middle of their first clicks, then the next
    one. In the end every prompt takes the one that shows it best. The windows depend on the prompts alone, and that of
    a single prompt stays where its first click put it while it shows all further ones well.

    Args:
        crop_grid: of the view.
        prompts_mm: per prompt its clicks, (n, 3) RAS world. Where they do not fit one window, the first one counts.

    Returns:
        First low-resolution voxel of each prompt's window.
    """
    if not prompts_mm:
        return []
    points = [_that_fit(crop_grid, clicks) for clicks in prompts_mm]
    ranges = np.stack([crop_grid.starts_showing(some) for some in points])  # (p, 2, 3)
    wanted = np.array([crop_grid.around(some[0]) for some in points])  # (p, 3)
    chosen: list[WindowIndex] = []
    left = np.ones(len(ranges), dtype=bool)
    while left.any():
        start = _most_shown(ranges[left])
        shown = left & _within(start[None], ranges)[0]
        first, last = ranges[shown, 0].max(axis=0), ranges[shown, 1].min(axis=0)
        middle = (wanted[shown].min(axis=0) + wanted[shown].max(axis=0)) // 2
        chosen.append(crop_grid.clamped(np.clip(middle, first, last)))
        left &= ~shown
    fits = _within(np.array(chosen), ranges)  # (w, p)
    distance = np.abs(np.array(chosen)[:, None] - wanted).max(axis=2)  # (w, p)
    best = np.where(fits, distance, distance.max() + 1).argmin(axis=0)
    return [chosen[index] for index in best]


def _that_fit(crop_grid: CropGrid, clicks_mm: NDArray[np.float64]) -> NDArray[np.float64]:
    first, last = crop_grid.starts_showing(clicks_mm)
    return clicks_mm if (first <= last).all() else clicks_mm[:1]


def _most_shown(ranges: NDArray[np.int64]) -> NDArray[np.int64]:
    """The start (3,) that lies in most ranges (p, 2, 3). Some first ends of ranges are always among the best."""
    axes = [_thinned(np.unique(ranges[:, 0, axis])) for axis in range(3)]
    crossings = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
    candidates = np.concatenate([crossings, ranges[:, 0]])  # (c, 3)
    best: NDArray[np.int64] = candidates[_within(candidates, ranges).sum(axis=1).argmax()]
    return best


def _thinned(values: NDArray[np.int64]) -> NDArray[np.int64]:
    every = -(-len(values) // _MOST_PER_AXIS)
    return values[::every]


def _within(starts: NDArray[np.int64], ranges: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether each start (c, 3) lies in each range (p, 2, 3): (c, p)."""
    inside = np.ones((len(starts), len(ranges)), dtype=bool)
    for axis in range(3):
        along = starts[:, axis, None]
        inside &= (along >= ranges[:, 0, axis]) & (along <= ranges[:, 1, axis])
    return inside
