"""One decoder's answers in several windows, as one field of logits."""

from dataclasses import dataclass
from functools import cache
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from moe_pipeline.imaging.crop_grid import CropGrid, WindowIndex
from moe_pipeline.imaging.geometry import Box, Geometry
from moe_pipeline.records.foundation import Sides

FAR_OUTSIDE = -30.0
"""A logit beyond all that a decoder was asked for."""
Value = TypeVar("Value", bound=np.generic)
_EXTENSION_WEIGHT = 0.2  # of a window without clicks, against 1 of one with
_PRIOR_WEIGHT = 1e-3  # of a coarser answer, against 1 of a window's at its middle

Windows = dict[WindowIndex, NDArray[np.float32]]
"""Logits (*low) by window."""


@dataclass(frozen=True, slots=True)
class StitchedLogits:
    """Logits on the low-resolution voxels of one view.

    Attributes:
        crop_grid: of the view.
        box: low-resolution voxels that are held.
        logits: float32, the box's shape; where nobody was asked, as where the object is not.
        known: where a window answered.
    """

    crop_grid: CropGrid
    box: Box
    logits: NDArray[np.float32]
    known: NDArray[np.bool_]

    @property
    def corner(self) -> NDArray[np.int64]:
        """First low-resolution voxel, (3,)."""
        return np.array([start for start, _ in self.box])

    @property
    def geometry(self) -> Geometry:
        """Of the low-resolution voxels held."""
        return self.crop_grid.geometry.cropped(self.box)

    def read(self, box: Box, array: NDArray[Value], *, fill: float) -> NDArray[Value]:
        """One of this stitched logits's arrays in any box of low-resolution voxels, with `fill` where it has none."""
        shape = tuple(stop - start for start, stop in box)
        values = np.full(shape, fill, array.dtype)
        own, there = [], []
        for (start, stop), (first, last) in zip(box, self.box, strict=True):
            low, high = max(start, first), max(min(stop, last), max(start, first))
            own.append(slice(low - start, high - start))
            there.append(slice(low - first, high - first))
        values[tuple(own)] = array[tuple(there)]
        return values


def stitch(
    crop_grid: CropGrid, windows: Windows, extended: Windows | None = None, prior: StitchedLogits | None = None
) -> StitchedLogits:
    """Weighted mean of the windows' logits, the less weight the nearer a window's face.

    So a mask crosses from one window to the next without a step, and one window alone stays as it is.

    Args:
        crop_grid: of the view.
        windows: with clicks of the user in them, at least one.
        extended: without; they know less, so they count less where a window with clicks has an answer.
        prior: a coarser answer on the same crop grid. It shows where there is no window, and hardly through them.
    """
    extended = extended or {}
    if len(windows) == 1 and not extended and prior is None:
        ((start, logits),) = windows.items()
        return StitchedLogits(crop_grid, crop_grid.box(start), logits, np.ones(logits.shape, dtype=bool))
    box = _around([crop_grid.box(start) for start in (*windows, *extended)] + ([prior.box] if prior else []))
    total = np.zeros([stop - start for start, stop in box], np.float32)
    weights = np.zeros_like(total)
    for some, weight in ((windows, 1.0), (extended, _EXTENSION_WEIGHT)):
        importance = weight * _importance_map(crop_grid.window)
        for start, logits in some.items():
            place = tuple(
                slice(a - first, a - first + side)
                for a, (first, _), side in zip(start, box, crop_grid.window, strict=True)
            )
            total[place] += importance * logits
            weights[place] += importance
    known = weights > 0
    if prior is not None:
        behind = prior.read(box, prior.known, fill=False)
        total += _PRIOR_WEIGHT * np.where(behind, prior.read(box, prior.logits, fill=0), 0)
        weights += _PRIOR_WEIGHT * behind
    mean = np.divide(total, weights, out=np.zeros_like(total), where=weights > 0)
    absent = mean[mean < 0]
    mean[weights == 0] = absent.mean() if absent.size else FAR_OUTSIDE  # nobody was asked: as where it is not
    return StitchedLogits(crop_grid, box, mean, known)


def as_box(first: NDArray[np.integer], last: NDArray[np.integer]) -> Box:
    """Half-open intervals from arrays (3,)."""
    x, y, z = zip(first.tolist(), last.tolist(), strict=True)
    return x, y, z


def _around(boxes: list[Box]) -> Box:
    """The smallest box that holds all of them."""
    sides = np.array(boxes)  # (b, 3, 2)
    return as_box(sides[..., 0].min(axis=0), sides[..., 1].max(axis=0))


@cache
def _importance_map(window: Sides) -> NDArray[np.float32]:
    """Falls from 1 in the middle of a window to nearly 0 at its faces, (*low)."""
    x, y, z = ((1 - np.abs(np.arange(side) - (side - 1) / 2) / ((side - 1) / 2 + 1)) ** 2 for side in window)
    product = x[:, None, None] * y[:, None] * z
    return np.asarray(product, dtype=np.float32)
