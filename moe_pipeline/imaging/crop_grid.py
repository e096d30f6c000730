"""Where the crops of one view may stand over an image: always on the same low-resolution voxels.

A decoder answers in low-resolution voxels of a few voxels. Where all crops keep to one crop grid of low-resolution
voxels, their answers overlap low-resolution voxel by low-resolution voxel: they can be blended, and given to each
other as prompts, without resampling. Training cuts its crops on the same crop grid: an encoder of patches sees a
small scan that is shifted by a voxel as quite another one.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from moe_pipeline.imaging.geometry import Box, Geometry
from moe_pipeline.imaging.views import view_grid
from moe_pipeline.records.foundation import Sides, View

WindowIndex = tuple[int, int, int]
"""First low-resolution voxel of a window."""

MARGIN = 0.25
"""Of the crop's edges, between a prompt and a face that cuts the image."""


@dataclass(frozen=True)
class CropGrid:
    """The low-resolution voxels of a view over one image.

    Attributes:
        image: grid of the image.
        view: what the encoder sees.
        window: low-resolution voxels of a crop along x, y and z.
    """

    image: Geometry
    view: View
    window: Sides

    @cached_property
    def voxels(self) -> Geometry:
        """The view's voxels over the whole image."""
        return view_grid(self.image, self.view)

    @property
    def shown(self) -> View:
        """The view with the spacing that it has over this image."""
        canonical = self.image.canonical()
        return self.view.over(canonical.shape, canonical.spacing_mm)

    @cached_property
    def extent_mm(self) -> NDArray[np.float64]:
        """Edges of a crop in mm, (3,)."""
        return np.asarray(self.voxels.spacing_mm) * self.view.size_voxels

    @cached_property
    def low_res_stride(self) -> NDArray[np.int64]:
        """Voxels along the edges of a low-resolution voxel, (3,)."""
        return np.asarray(np.floor_divide(self.view.size_voxels, self.window), dtype=np.int64)

    @cached_property
    def half(self) -> NDArray[np.int64]:
        """Low-resolution voxels of half a window, (3,): the step of window extension."""
        return np.asarray(self.window) // 2

    @cached_property
    def geometry(self) -> Geometry:
        """The low-resolution voxels over the whole image; the first one begins at the image's first corner."""
        return self.voxels.resampled((np.asarray(self.voxels.spacing_mm) * self.low_res_stride).tolist())

    @cached_property
    def lowest(self) -> NDArray[np.int64]:
        """First start along each axis. An image that is shorter than the crop stands in its middle."""
        spare = np.asarray(self.voxels.shape) - self.view.size_voxels
        return np.asarray(np.minimum(spare // 2 // self.low_res_stride, 0))

    @cached_property
    def highest(self) -> NDArray[np.int64]:
        """Last start along each axis: the crop's end is at the image's, or less than a low-resolution voxel beyond."""
        return np.asarray(np.maximum(np.asarray(self.geometry.shape) - self.window, self.lowest))

    def clamped(self, start: NDArray[np.integer]) -> WindowIndex:
        """The nearest start that shows as much of the image as it can."""
        x, y, z = np.clip(start, self.lowest, self.highest).tolist()
        return x, y, z

    def around(self, point_mm: NDArray[np.float64]) -> WindowIndex:
        """The window around a point (3,) of the RAS world."""
        return self.clamped(
            np.rint(self.geometry.world_to_voxel(point_mm) + 0.5 - np.asarray(self.window) / 2).astype(int)
        )

    def cube(self, start: WindowIndex) -> Geometry:
        """The view's voxels in a window."""
        firsts = (np.asarray(start) * self.low_res_stride).tolist()
        x, y, z = ((first, first + size) for first, size in zip(firsts, self.view.size_voxels, strict=True))
        return self.voxels.cropped((x, y, z))

    def box(self, start: WindowIndex) -> Box:
        """The low-resolution voxels of a window."""
        x, y, z = ((first, first + side) for first, side in zip(start, self.window, strict=True))
        return x, y, z

    def starts_showing(self, points_mm: NDArray[np.float64], margin: float = MARGIN) -> NDArray[np.int64]:
        """First and last start, (2, 3), of windows that show points well.

        Every point keeps its distance from the faces that cut the image; where the image ends it may be close. The
        first is above the last where no window shows all of them so.

        Args:
            points_mm: (n, 3) RAS world.
            margin: the distance, as a part of the crop's edges.
        """
        window = np.asarray(self.window)
        # (n, 3); a low-resolution voxel reaches from -0.5 to 0.5 around its index
        low_res_voxels = self.geometry.world_to_voxel(points_mm)
        first = np.ceil(low_res_voxels.max(axis=0) + 0.5 - (1 - margin) * window).astype(int)
        last = np.floor(low_res_voxels.min(axis=0) + 0.5 - margin * window).astype(int)
        first, last = np.minimum(first, self.highest), np.maximum(last, self.lowest)
        return np.stack([np.maximum(first, self.lowest), np.minimum(last, self.highest)])

    def holds(self, start: WindowIndex, points_mm: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Which points (n, 3) lie in a window, (n,)."""
        low_res_voxels = self.geometry.world_to_voxel(points_mm) - np.asarray(start)
        return np.asarray(((low_res_voxels >= -0.5) & (low_res_voxels < np.asarray(self.window) - 0.5)).all(axis=1))
