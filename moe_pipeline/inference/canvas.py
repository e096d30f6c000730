"""One decoder's answers in several windows, as one field of logits."""

from dataclasses import dataclass
from functools import cache
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from moe_pipeline.imaging.geometry import Box, Geometry
from moe_pipeline.inference.lattice import CellLattice, Start

FAR_OUTSIDE = -30.0
"""A logit beyond all that a decoder was asked for."""
Value = TypeVar("Value", bound=np.generic)
_PRIOR_WEIGHT = 1e-2  # of a coarser answer, against 1 of a window's at its middle

Windows = dict[Start, NDArray[np.float32]]
"""Logits (l, l, l) by window."""


@dataclass(frozen=True, slots=True)
class Canvas:
    """Logits on the cells of one view.

    Attributes:
        lattice: of the view.
        box: cells that are held.
        logits: float32, the box's shape; where nobody was asked, as where the object is not.
        known: where a window answered.
    """

    lattice: CellLattice
    box: Box
    logits: NDArray[np.float32]
    known: NDArray[np.bool_]

    @property
    def corner(self) -> NDArray[np.int64]:
        """First cell, (3,)."""
        return np.array([start for start, _ in self.box])

    @property
    def geometry(self) -> Geometry:
        """Of the cells held."""
        return self.lattice.geometry.cropped(self.box)

    def read(self, box: Box, array: NDArray[Value], *, fill: float) -> NDArray[Value]:
        """One of this canvas's arrays in any box of cells, with `fill` where it has none."""
        shape = tuple(stop - start for start, stop in box)
        values = np.full(shape, fill, array.dtype)
        own, there = [], []
        for (start, stop), (first, last) in zip(box, self.box, strict=True):
            low, high = max(start, first), max(min(stop, last), max(start, first))
            own.append(slice(low - start, high - start))
            there.append(slice(low - first, high - first))
        values[tuple(own)] = array[tuple(there)]
        return values


def blend(lattice: CellLattice, windows: Windows) -> Canvas:
    """Weighted mean of the windows' logits, the less weight the nearer a window's face.

    So a mask crosses from one window to the next without a step, and one window alone stays as it is.
    """
    if len(windows) == 1:
        ((start, logits),) = windows.items()
        return Canvas(lattice, lattice.box(start), logits, np.ones(logits.shape, dtype=bool))
    starts = np.array(list(windows))  # (w, 3)
    box = as_box(starts.min(axis=0), starts.max(axis=0) + lattice.window)
    total, weights = _sums(lattice, windows, box)
    return _mean(lattice, box, total, weights, weights > 0)


def blend_over(prior: Canvas, windows: Windows) -> Canvas:
    """As `blend`, on top of a coarser answer, which shows where there is no window."""
    lattice = prior.lattice
    starts = np.array(list(windows))  # (w, 3)
    corners = np.stack([np.array(prior.box)[:, 0], np.array(prior.box)[:, 1]])
    first = np.minimum(starts.min(axis=0), corners[0])
    last = np.maximum(starts.max(axis=0) + lattice.window, corners[1])
    box = as_box(first, last)
    total, weights = _sums(lattice, windows, box)
    known = weights > 0
    behind = prior.read(box, prior.known, fill=False)
    total += _PRIOR_WEIGHT * np.where(behind, prior.read(box, prior.logits, fill=0), 0)
    weights += _PRIOR_WEIGHT * behind
    return _mean(lattice, box, total, weights, known)


def as_box(first: NDArray[np.integer], last: NDArray[np.integer]) -> Box:
    """Half-open intervals from arrays (3,)."""
    x, y, z = zip(first.tolist(), last.tolist(), strict=True)
    return x, y, z


def _sums(lattice: CellLattice, windows: Windows, box: Box) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    total = np.zeros([stop - start for start, stop in box], np.float32)
    weights = np.zeros_like(total)
    taper = _taper(lattice.window)
    for start, logits in windows.items():
        place = tuple(slice(a - first, a - first + lattice.window) for a, (first, _) in zip(start, box, strict=True))
        total[place] += taper * logits
        weights[place] += taper
    return total, weights


def _mean(
    lattice: CellLattice, box: Box, total: NDArray[np.float32], weights: NDArray[np.float32], known: NDArray[np.bool_]
) -> Canvas:
    mean = np.divide(total, weights, out=np.zeros_like(total), where=weights > 0)
    absent = mean[mean < 0]
    mean[weights == 0] = absent.mean() if absent.size else FAR_OUTSIDE  # nobody was asked: as where it is not
    return Canvas(lattice, box, mean, known)


@cache
def _taper(window: int) -> NDArray[np.float32]:
    """Falls from 1 in the middle of a window to nearly 0 at its faces, (l, l, l)."""
    middle = (window - 1) / 2
    along = (1 - np.abs(np.arange(window) - middle) / (middle + 1)) ** 2
    product = along[:, None, None] * along[:, None] * along
    return np.asarray(product, dtype=np.float32)
