"""One prompt's conversation with the mixture: clicks in, a probability map on the image's own grid out."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from moe_pipeline.imaging.geometry import Box, Geometry
from moe_pipeline.imaging.resampling import resample
from moe_pipeline.imaging.volume import Volume
from moe_pipeline.inference.crops import CropBank, EncodedCrop
from moe_pipeline.inference.model import Mixture
from moe_pipeline.model.foundation import Foundation
from moe_pipeline.model.mask_decoder import MaskDecoder
from moe_pipeline.model.mixture import GENERAL, Route, mix
from moe_pipeline.training.clicks import full_size

_FAR_OUTSIDE = -30.0  # a logit where a decoder sees nothing

Clicks = tuple[NDArray[np.float64], NDArray[np.int64]]
"""(n, 3) RAS world in mm, and (n,) labels."""


@dataclass(frozen=True, slots=True)
class ProbabilityMap:
    """Probabilities in a box of the canonical image grid; nothing outside it.

    Attributes:
        box: half-open voxel intervals.
        values: float32, the box's shape.
    """

    box: Box
    values: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Reply:
    """What the mixture makes of one prompt."""

    route: Route
    clicks: Clicks
    probability: ProbabilityMap


NextClick = Callable[[Callable[[], ProbabilityMap], Clicks], Clicks]
"""Given the present answer and the clicks so far, the clicks for the next turn: one more than before. The answer is
resampled to the image's grid only if it is called for."""


class _Speaker:
    """One decoder on one crop, remembering its last logits."""

    def __init__(self, foundation: Foundation, decoder: MaskDecoder, crop: EncodedCrop) -> None:
        self.foundation = foundation
        self.decoder = decoder
        self.crop = crop
        low = foundation.config.low_resolution_size
        self.logits = torch.zeros(1, 1, low, low, low, device=crop.embedding.device)

    @torch.no_grad()
    def answer(self, clicks: Clicks) -> None:
        coordinates, labels = in_crop(clicks, self.crop)
        sparse, dense = self.foundation.prompt_encoder(points=(coordinates, labels), mask=self.logits)
        logits, _ = self.decoder(self.crop.embedding, sparse, dense)
        self.logits = logits.float()

    def probability(self, image: Geometry, box: Box) -> NDArray[np.float32]:
        size = self.crop.view.size_voxels
        logits = Volume(full_size(self.logits, size)[0, 0].cpu().numpy(), self.crop.grid)
        values = resample(logits, image.cropped(box), order="linear", outside=_FAR_OUTSIDE).array
        probabilities: NDArray[np.float32] = torch.from_numpy(values).sigmoid().numpy()
        return probabilities


def converse_with(model: Mixture, bank: CropBank, known: Clicks, turns: int, next_click: NextClick) -> Reply:
    """Route one prompt by the clicks known at the start, then let the chosen decoders answer turn by turn.

    Every turn feeds each decoder all clicks so far and its own previous logits, as it was trained.

    Args:
        model: the mixture.
        bank: crops of the case.
        known: what crop and route are chosen by; the first of them opens the dialogue.
        turns: how many turns.
        next_click: asked for the clicks of each following turn.

    Returns:
        Who answered, the clicks used, and the probability map of the last turn.
    """
    seen = bank.around(known[0], model.view)
    route = model.route(seen.embedding, *in_crop(known, seen))
    general = _Speaker(model.foundation, model.foundation.mask_decoder, seen)
    speakers = [general] if route.weight < 1 else []
    if route.expert != GENERAL:
        expert = model.experts[route.expert - 1]
        crop = seen if expert.view == model.view else bank.around(known[0], expert.view)
        speakers.append(_Speaker(model.foundation, expert.decoder, crop))
    box = _common_box(bank.image.geometry, [speaker.crop.grid for speaker in speakers])
    clicks = known[0][:1], known[1][:1]
    answer = partial(_mixed, speakers, route, bank.image.geometry, box)
    for turn in range(turns):
        for speaker in speakers:
            speaker.answer(clicks)
        if turn + 1 < turns:
            clicks = next_click(answer, clicks)
    return Reply(route, clicks, answer())


def in_crop(clicks: Clicks, crop: EncodedCrop) -> tuple[Tensor, Tensor]:
    """Clicks as the prompt encoder wants them; those outside the crop are left out.

    Returns:
        (1, n, 3) voxels of the crop in tensor axis order and (1, n) labels, on the crop's device.
    """
    voxels = crop.grid.world_to_voxel(clicks[0])  # (n, 3)
    within = ((voxels >= -0.5) & (voxels < np.asarray(crop.grid.shape) - 0.5)).all(axis=1)
    device = crop.embedding.device
    coordinates = torch.from_numpy(voxels[within]).float()[None].to(device)
    return coordinates, torch.from_numpy(clicks[1][within]).long()[None].to(device)


def _mixed(speakers: list[_Speaker], route: Route, image: Geometry, box: Box) -> ProbabilityMap:
    maps = [torch.from_numpy(speaker.probability(image, box)) for speaker in speakers]
    values = maps[0] if len(maps) == 1 else mix(maps[1], maps[0], route.weight)
    return ProbabilityMap(box, values.numpy())


def _common_box(image: Geometry, grids: list[Geometry]) -> Box:
    """Smallest box of the image that holds every cube, cut at the image's borders."""
    corners = []
    for grid in grids:
        size = np.asarray(grid.shape)
        unit = np.array(np.meshgrid([0, 1], [0, 1], [0, 1])).reshape(3, -1).T  # (8, 3)
        corners.append(image.world_to_voxel(grid.voxel_to_world(unit * size - 0.5)))
    places = np.concatenate(corners)
    start = np.clip(np.floor(places.min(axis=0)), 0, np.asarray(image.shape) - 1).astype(int)
    stop = np.clip(np.ceil(places.max(axis=0)) + 1, start + 1, image.shape).astype(int)
    x, y, z = ((int(a), int(b)) for a, b in zip(start, stop, strict=True))
    return x, y, z
