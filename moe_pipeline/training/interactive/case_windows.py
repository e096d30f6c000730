"""Prompts of one image as prediction sees them: windows around a click, in any view."""

from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from moe_pipeline.imaging.crop_grid import CropGrid, WindowIndex
from moe_pipeline.imaging.resampling import resample
from moe_pipeline.imaging.views import extract_crop, view_grid
from moe_pipeline.imaging.volume import Volume
from moe_pipeline.mixture.claims import PromptWindow, first_mask
from moe_pipeline.model.foundation import Decoder, Foundation
from moe_pipeline.model.moe.claim import FirstMask
from moe_pipeline.records.foundation import View
from moe_pipeline.training.interactive.simulated_clicks import full_size

_MARGIN = 4.0
"""Longest edges of the expert's voxels between a background click and anything labelled: nearer, who clicks may well
mean it."""


@dataclass(frozen=True, slots=True)
class Click:
    """A first click.

    Attributes:
        place_mm: (3,) RAS world.
        class_id: of the object; None where nothing is labelled, so that nobody knows what is meant.
    """

    place_mm: NDArray[np.float64]
    class_id: int | None


@dataclass(frozen=True, slots=True)
class CaseWindows:
    """One image with its labels; each window is encoded once.

    Attributes:
        image: in canonical orientation.
        labels: on its grid.
        foundation: on `device`.
        device: where to encode.
    """

    image: Volume
    labels: Volume
    foundation: Foundation
    device: torch.device
    _encoded: dict[tuple[View, WindowIndex], Tensor] = field(default_factory=dict)

    @torch.no_grad()
    def window(self, view: View, click: Click) -> PromptWindow:
        """The window around a click."""
        grid = self._grid(view)
        start = grid.around(click.place_mm)
        if (view, start) not in self._encoded:
            crop = extract_crop(self.image, grid.cube(start), view)
            image = torch.from_numpy(crop)[None, None].to(self.device)
            self._encoded[view, start] = self.foundation.encode(image)
        cube = grid.cube(start)
        voxel = cube.world_to_voxel(click.place_mm[None])[0]  # (3,)
        return PromptWindow(self._encoded[view, start], torch.from_numpy(voxel).float(), cube.spacing_mm)

    def answer(self, decoder: Decoder, view: View, click: Click) -> tuple[FirstMask, float]:
        """A decoder's first answer and its Dice; NaN where nobody knows what is meant.

        What of the object lies beyond the window counts as missed, though prediction would follow it there.
        """
        mask = first_mask(self.foundation, decoder, self.window(view, click))
        if click.class_id is None:
            return mask, float("nan")
        target, wanted = self.target(view, click)
        found = (full_size(mask.logits[None, None], view.size_voxels) > 0)[0, 0]
        return mask, 2 * float((found & target).sum()) / (float(found.sum()) + wanted)

    def target(self, view: View, click: Click) -> tuple[Tensor, float]:
        """What is meant by a click on a class: its mask in the window, (*crop) bool, and its voxels inside and out."""
        grid = self._grid(view)
        cube = grid.cube(grid.around(click.place_mm))
        inside = resample(self.labels, cube, order="nearest", outside=0).array == click.class_id
        whole_ml = float((self.labels.array == click.class_id).sum()) * self.labels.geometry.voxel_ml
        return torch.from_numpy(inside), max(float(inside.sum()), whole_ml / cube.voxel_ml)

    def _grid(self, view: View) -> CropGrid:
        return CropGrid(self.image.geometry, view, self.foundation.geometry.low_resolution_size)


def clicks_in(labels: Volume, classes: tuple[int, ...], each: int, random: np.random.Generator) -> list[Click]:
    """Clicks at random voxels of the classes that the label map has, `each` per class."""
    clicks = []
    for class_id in classes:
        voxels = np.flatnonzero(labels.array == class_id)
        for _ in range(each if voxels.size else 0):
            clicks.append(Click(_place(labels, int(random.choice(voxels))), class_id))
    return clicks


def background_clicks_in(labels: Volume, view: View, count: int, random: np.random.Generator) -> list[Click]:
    """Clicks well away from everything labelled; none where the objects fill the image."""
    distance_mm = distance_transform_edt(labels.array == 0, sampling=labels.geometry.spacing_mm)
    voxels = np.flatnonzero(distance_mm > _MARGIN * max(view_grid(labels.geometry, view).spacing_mm))
    return [Click(_place(labels, int(random.choice(voxels))), None) for _ in range(count if voxels.size else 0)]


def _place(labels: Volume, voxel: int) -> NDArray[np.float64]:
    index = np.array(np.unravel_index(voxel, labels.array.shape), dtype=float)
    place: NDArray[np.float64] = labels.geometry.voxel_to_world(index[None])[0]
    return place
