"""When an object is better seen from nearer, or from farther away."""

import numpy as np
from numpy.typing import NDArray

from moe_pipeline.imaging.crop_grid import CropGrid, WindowIndex
from moe_pipeline.imaging.geometry import Geometry
from moe_pipeline.imaging.views import view_grid
from moe_pipeline.inference.windows.extend import connected, in_image
from moe_pipeline.inference.windows.stitch import FAR_OUTSIDE, StitchedLogits, as_box
from moe_pipeline.inference.windows.to_image import image_box, logits_in
from moe_pipeline.presets import zoom_steps_mm
from moe_pipeline.records.foundation import View

_SMALL = 0.25
"""Part of the crop's edges: an object that is smaller is seen from nearer,"""
_FILLS = 0.35
"""in the finest view in which it fills no more than this part; by an image's own voxels whatever it fills there."""


def closer_view(stitched: StitchedLogits, seeds: NDArray[np.int64]) -> tuple[View, NDArray[np.float64]] | None:
    """A finer view for a small object, and the middle of it.

    Args:
        stitched: the answer in the present view.
        seeds: (n, 3) low-resolution voxels of the clicks inside the object.

    Returns:
        None if the object is not small, nothing was found, or there is no finer view in which it fits.
    """
    crop_grid = stitched.crop_grid
    mask = connected((stitched.logits > 0) & in_image(stitched), seeds - stitched.corner)
    voxels = np.argwhere(mask)
    if not len(voxels):
        return None
    first, last = voxels.min(axis=0), voxels.max(axis=0)
    extent_mm = (last - first + 1) * np.asarray(crop_grid.geometry.spacing_mm)
    if (extent_mm > _SMALL * crop_grid.extent_mm).any():
        return None
    for finer in finer_views(crop_grid):
        if (
            finer.spacing_mm == "native"
            or (extent_mm <= _FILLS * CropGrid(crop_grid.image, finer, crop_grid.window).extent_mm).all()
        ):
            return finer, stitched.geometry.voxel_to_world((first + last) / 2)
    return None


def finer_views(crop_grid: CropGrid) -> list[View]:
    """Finer views than that of a crop grid, the finest first. One that is fitted to the image has the image's own."""
    view = crop_grid.shown
    if crop_grid.view.spacing_mm == "fitted":
        native = view.model_copy(update={"spacing_mm": "native"})
        return [native] if min(view_grid(crop_grid.image, native).spacing_mm) < min(view.edges_mm) else []
    return [view.with_finest(mm) for mm in zoom_steps_mm() if mm < min(view.edges_mm)]


def mean_of_views(
    closer: NDArray[np.float32], crop_grid: CropGrid, start: WindowIndex, first: StitchedLogits
) -> NDArray[np.float32]:
    """The mean of a closer look, logits (*low), and of the first one, where that reaches.

    A network that was trained on one spacing sees less well on another: alone, closer looks lose as often as they win.

    Args:
        closer: the answer in a window of the finer view.
        crop_grid: of the finer view.
        start: the window.
        first: the answer in the network's own view.
    """
    there = logits_in(first, crop_grid.geometry, crop_grid.box(start), np.nan)
    return np.where(np.isnan(there), closer, (closer + there) / 2).astype(np.float32)


def farther_views(crop_grid: CropGrid) -> list[View]:
    """Coarser views than that of a crop grid, the finest first; none where it is fitted to the image."""
    view = crop_grid.shown
    if crop_grid.view.spacing_mm == "fitted":
        return []
    return [view.with_finest(mm) for mm in zoom_steps_mm() if mm > min(view.edges_mm)]


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
