"""One decoder on one crop."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from moe_pipeline.imaging.crop_grid import WindowIndex
from moe_pipeline.inference.windows.embedding_cache import FLIPS, CropBank, EncodedCrop
from moe_pipeline.mixture.model import Mixture
from moe_pipeline.model.foundation import Decoder, Foundation
from moe_pipeline.model.moe.selector import Route

Clicks = tuple[NDArray[np.float64], NDArray[np.int64]]
"""(n, 3) RAS world in mm, and (n,) labels."""


@torch.no_grad()
def decode(
    foundation: Foundation,
    decoder: Decoder,
    crop: EncodedCrop,
    clicks: Clicks,
    mask: NDArray[np.float32],
    mirror_axes: tuple[int, ...],
) -> NDArray[np.float32]:
    """Low-resolution logits of one object, averaged over those of the crop's looks that the decoder knows.

    Args:
        foundation: embeds the prompts.
        decoder: general or expert.
        crop: encoded.
        clicks: those outside the crop are left out.
        mask: previous logits (l, l, l), zeros before the first answer.
        mirror_axes: along which the decoder knows mirror images.

    Returns:
        (l, l, l).
    """
    coordinates, labels = in_crop(clicks, crop)
    previous = torch.from_numpy(mask)[None, None].to(crop.embedding.device)  # (1, 1, l, l, l)
    size = crop.crop_grid.view.size_voxels
    answers = []
    for axes, embedding in zip(FLIPS, crop.looks, strict=False):
        if not set(axes) <= set(mirror_axes):
            continue
        there = _mirrored(coordinates, axes, size)
        spatial = [axis + 2 for axis in axes]
        prompts = foundation.embed_prompts((there, labels), mask=previous.flip(spatial))
        logits, _ = decoder.decode(decoder.prepare(embedding), prompts).answer()
        answers.append(logits.float().flip(spatial))
    answer: NDArray[np.float32] = torch.stack(answers).mean(0)[0, 0].cpu().numpy()
    return answer


def in_crop(clicks: Clicks, crop: EncodedCrop) -> tuple[Tensor, Tensor]:
    """Clicks as the prompt encoder wants them; those outside the crop are left out.

    Returns:
        (1, n, 3) voxels of the crop in tensor axis order and (1, n) labels, on the crop's device.
    """
    within = crop.crop_grid.holds(crop.start, clicks[0])
    voxels = crop.crop_grid.cube(crop.start).world_to_voxel(clicks[0][within])  # (n, 3)
    device = crop.embedding.device
    coordinates = torch.from_numpy(voxels).float()[None].to(device)
    return coordinates, torch.from_numpy(clicks[1][within]).long()[None].to(device)


def _mirrored(coordinates: Tensor, axes: tuple[int, ...], size: int) -> Tensor:
    if not axes:
        return coordinates
    there = coordinates.clone()
    for axis in axes:
        there[..., axis] = size - 1 - coordinates[..., axis]
    return there


def route_of(model: Mixture, bank: CropBank, initial_window: WindowIndex, known: Clicks) -> Route:
    """Who answers a prompt, by the clicks known at the start in the crop of the foundation's view."""
    seen = bank.crop(model.view, initial_window)
    return model.route(seen.embedding, *in_crop(known, seen))
