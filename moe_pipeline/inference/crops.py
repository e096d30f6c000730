"""Encoded crops of one case: each is encoded once and answers every prompt that it shows well."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from moe_pipeline.imaging.geometry import Geometry
from moe_pipeline.imaging.placement import place_crop
from moe_pipeline.imaging.views import extract_crop, view_grid
from moe_pipeline.imaging.volume import Volume
from moe_pipeline.model.foundation import Foundation
from moe_pipeline.records.view import View

_MARGIN = 0.25  # of the cube's edge between a prompt and a face that cuts the image


@dataclass(frozen=True, slots=True)
class EncodedCrop:
    """What the foundation knows of one cube.

    Attributes:
        grid: where the cube lies.
        view: how it was seen.
        embedding: (1, C, g, g, g).
    """

    grid: Geometry
    view: View
    embedding: Tensor


class CropBank:
    """The crops of one case so far."""

    def __init__(self, image: Volume, foundation: Foundation, device: torch.device) -> None:
        self.image = image
        self.foundation = foundation
        self.device = device
        self.crops: list[EncodedCrop] = []

    def around(self, clicks_mm: NDArray[np.float64], view: View) -> EncodedCrop:
        """A crop that shows the first click well: one that is there, else a new one.

        Args:
            clicks_mm: (n, 3) RAS world; the crop is chosen by the middle of the clicks, or the first one where
                they do not all fit.
            view: to be seen in.
        """
        middle = (clicks_mm.min(axis=0) + clicks_mm.max(axis=0)) / 2
        spread = float((clicks_mm.max(axis=0) - clicks_mm.min(axis=0)).max())
        wanted = clicks_mm if spread < view.extent_mm * (1 - 2 * _MARGIN) else clicks_mm[:1]
        lattice = view_grid(self.image.geometry, view)
        for crop in self.crops:
            if crop.view == view and _shows_well(crop.grid, lattice, wanted):
                return crop
        grid = place_crop(self.image.geometry, view, middle if wanted is clicks_mm else clicks_mm[0])
        crop = EncodedCrop(grid, view, self._encode(grid, view))
        self.crops.append(crop)
        return crop

    @torch.no_grad()
    def _encode(self, grid: Geometry, view: View) -> Tensor:
        cube = extract_crop(self.image, grid, view)
        embedding: Tensor = self.foundation.image_encoder(torch.from_numpy(cube)[None, None].to(self.device))
        return embedding  # (1, C, g, g, g)


def _shows_well(grid: Geometry, lattice: Geometry, points_mm: NDArray[np.float64]) -> bool:
    """Every point keeps its distance from the faces that cut the image; where the image ends it may be close."""
    start = np.rint(lattice.world_to_voxel(grid.voxel_to_world(np.zeros((1, 3))))[0])  # first voxel of the cube
    size = np.asarray(grid.shape)
    voxels = grid.world_to_voxel(points_mm)  # (n, 3)
    low_enough = (voxels >= _MARGIN * size) | (start <= 0)
    high_enough = (voxels < (1 - _MARGIN) * size) | (start + size >= np.asarray(lattice.shape))
    within = (voxels >= -0.5) & (voxels < size - 0.5)
    return bool((low_enough & high_enough & within).all())
