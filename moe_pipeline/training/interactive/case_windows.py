"""Prompts of one image as prediction sees them: windows around a click, in any view."""

from dataclasses import dataclass, field
from typing import NamedTuple

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
from moe_pipeline.training.interactive.simulated_clicks import ClickState, click_sequence, full_size

_MARGIN = 4.0
"""Longest edges of the expert's voxels between a background click and anything labelled: nearer, who clicks may well
mean it."""

CORRECTIONS = 4
"""Clicks of the simulated user after the first, until an answer counts as corrected."""


@dataclass(frozen=True, slots=True)
class Click:
    """A first click.

    Attributes:
        place_mm: (3,) RAS world.
        class_id: of the object; None where nothing is labelled, so that nobody knows what is meant.
    """

    place_mm: NDArray[np.float64]
    class_id: int | None


class PromptDice(NamedTuple):
    """Dice of a decoder's answers to one prompt; NaN where nobody knows what is meant."""

    first: float
    """Of the first answer."""
    corrected: float
    """After `CORRECTIONS` further clicks, each where its last answer was wrong."""


UNKNOWN = PromptDice(float("nan"), float("nan"))


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

    @torch.no_grad()
    def answer(self, decoder: Decoder, view: View, click: Click) -> tuple[FirstMask, PromptDice]:
        """A decoder's first answer, and the Dice of it and of its corrected one.

        What of the object lies beyond the window counts as missed, though prediction would follow it there.
        """
        window = self.window(view, click)
        mask = first_mask(self.foundation, decoder, window)
        if click.class_id is None:
            return mask, UNKNOWN
        target, wanted = self.target(view, click)
        corrected = self._corrected(decoder, window, mask, target)
        return mask, PromptDice(_dice(mask.logits, target, wanted), _dice(corrected, target, wanted))

    def _corrected(self, decoder: Decoder, window: PromptWindow, mask: FirstMask, target: Tensor) -> Tensor:
        """Logits (*low) after the simulated user's further clicks."""
        first = (window.click[None, None], torch.ones(1, 1, dtype=torch.long), mask.logits[None, None])
        state = ClickState(*(tensor.to(self.device) for tensor in first))
        shown, clicks = target[None, None].to(self.device), torch.Generator().manual_seed(0)
        told = (self.foundation, decoder, window.embedding, shown, CORRECTIONS, clicks)
        *_, last = click_sequence(*told, after=state)
        return last.logits[0, 0].float().cpu()

    def target(self, view: View, click: Click) -> tuple[Tensor, float]:
        """What is meant by a click on a class: its mask in the window, (*crop) bool, and its voxels inside and out."""
        grid = self._grid(view)
        cube = grid.cube(grid.around(click.place_mm))
        inside = resample(self.labels, cube, order="nearest", outside=0).array == click.class_id
        whole_ml = float((self.labels.array == click.class_id).sum()) * self.labels.geometry.voxel_ml
        return torch.from_numpy(inside), max(float(inside.sum()), whole_ml / cube.voxel_ml)

    def _grid(self, view: View) -> CropGrid:
        return CropGrid(self.image.geometry, view, self.foundation.geometry.low_resolution_size)


def _dice(logits: Tensor, target: Tensor, wanted: float) -> float:
    found = full_size(logits[None, None], target.shape)[0, 0] > 0
    return 2 * float((found & target).sum()) / (float(found.sum()) + wanted)


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
