"""When an object is better seen from nearer, or from farther away."""

import numpy as np
from numpy.typing import NDArray

from moe_pipeline.imaging.crop_grid import CropGrid, WindowIndex
from moe_pipeline.imaging.geometry import Geometry
from moe_pipeline.inference.windows.extend import connected, in_image
from moe_pipeline.inference.windows.stitch import FAR_OUTSIDE, StitchedLogits, as_box
from moe_pipeline.inference.windows.to_image import image_box, logits_in
from moe_pipeline.presets import zoom_steps_mm
from moe_pipeline.records.foundation import View

_SMALL = 0.25
"""Part of the cube's edge: an object that is smaller is seen from nearer,"""
_FILLS = 0.35
"""in the finest view in which it fills no more than this part."""


def closer_view(stitched: StitchedLogits, seeds: NDArray[np.int64]) -> tuple[View, NDArray[np.float64]] | None:
    """A finer view for a small object, and the middle of it.

    Args:
        stitched: the answer in the present view.
        seeds: (n, 3) low-resolution voxels of the clicks inside the object.

    Returns:
        None if the object is not small, nothing was found, or there is no finer view in which it fits.
    """
    view = stitched.crop_grid.view
    mask = connected((stitched.logits > 0) & in_image(stitched), seeds - stitched.corner)
    voxels = np.argwhere(mask)
    if not len(voxels):
        return None
    first, last = voxels.min(axis=0), voxels.max(axis=0)
    extent_mm = float((last - first + 1).max()) * stitched.crop_grid.geometry.spacing_mm[0]
    if extent_mm > _SMALL * view.extent_mm:
        return None
    for spacing_mm in zoom_steps_mm():
        if spacing_mm < view.spacing_mm and extent_mm <= _FILLS * spacing_mm * view.size_voxels:
            finer = view.model_copy(update={"spacing_mm": spacing_mm})
            return finer, stitched.geometry.voxel_to_world((first + last) / 2)
    return None


def mean_of_views(
    closer: NDArray[np.float32], crop_grid: CropGrid, start: WindowIndex, first: StitchedLogits
) -> NDArray[np.float32]:
    """The mean of a closer look, logits (l, l, l), and of the first one, where that reaches.

    A network that was trained on one spacing sees less well on another: alone, closer looks lose as often as they win.

    Args:
        closer: the answer in a window of the finer view.
        crop_grid: of the finer view.
        start: the window.
        first: the answer in the network's own view.
    """
    there = logits_in(first, crop_grid.geometry, crop_grid.box(start), np.nan)
    return np.where(np.isnan(there), closer, (closer + there) / 2).astype(np.float32)


def farther_views(view: View) -> list[View]:
    """Coarser views, the finest first."""
    return [view.model_copy(update={"spacing_mm": mm}) for mm in zoom_steps_mm() if mm > view.spacing_mm]


def is_wide(stitched: StitchedLogits, seeds: NDArray[np.int64]) -> bool:
    """Whether the object touches two opposite ends of what was seen, with image beyond both."""
    mask = connected((stitched.logits > 0) & in_image(stitched), seeds - stitched.corner)
    for axis, ((start, stop), side) in enumerate(zip(stitched.box, stitched.crop_grid.geometry.shape, strict=True)):
        ends = mask.take(0, axis).any(), mask.take(-1, axis).any()
        if start > 0 and stop < side and all(ends):
            return True
    return False


def onto_crop_grid(stitched: StitchedLogits, crop_grid: CropGrid) -> StitchedLogits:
    """Stitched logits of one view, interpolated on the crop grid of another, where they have something to say."""
    voxels: Geometry = crop_grid.geometry
    box = image_box(stitched, voxels) or as_box(np.zeros(3, int), np.ones(3, int))
    logits = logits_in(stitched, voxels, box, FAR_OUTSIDE)
    return StitchedLogits(crop_grid, box, np.ascontiguousarray(logits), np.ones(logits.shape, dtype=bool))
