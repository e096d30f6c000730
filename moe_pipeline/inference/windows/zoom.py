"""SegVol's own way of prediction: a look at the whole volume, then windows of its own voxels around what was found.

It is here as it was published, for those who want to repeat published figures: `moe predict` has windows of its own.
All arrays have the axes (x, y, z), as everywhere.
"""

from dataclasses import dataclass
from itertools import product
from math import ceil

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from moe_pipeline.model.foundation import Foundation
from moe_pipeline.model.geometry import Sides

_OVERLAP = 0.5
_EXTRA_POINTS = 4
_NOTHING = np.full((3, 2), -1)

Ranges = NDArray[np.int64]
"""First and last voxel along each axis, both inside, (3, 2)."""


@dataclass(frozen=True, slots=True)
class ZoomPrompt:
    """What is wanted, in voxels of the volume as the first look shows it."""

    box: Ranges | None = None
    """Around it."""
    points: NDArray[np.int64] | None = None
    """Voxels inside it, (n, 3)."""
    text: Tensor | None = None
    """As the foundation's text encoder gives it, (1, C)."""


@dataclass(frozen=True, slots=True)
class ZoomAnswer:
    """Logits of one object.

    Attributes:
        logits: (X, Y, Z), the volume's shape.
        zoomed_out: those of the first look, likewise.
        region: first and last voxel of what was looked at again, (3, 2); None if the first look found nothing.
        window_boxes: the box given to each window, (n, 3, 2); six times -1 where there was nothing.
    """

    logits: Tensor
    zoomed_out: Tensor
    region: Ranges | None
    window_boxes: NDArray[np.int64]


@torch.no_grad()
def zoom_out_zoom_in(foundation: Foundation, volume: Tensor, prompt: ZoomPrompt, seed: int = 0) -> ZoomAnswer:
    """Segment one object.

    Args:
        foundation: takes boxes.
        volume: preprocessed intensities, (X, Y, Z); see `imaging.foreground`.
        prompt: what is wanted.
        seed: of the points that windows get beside the prompt's own.
    """
    crop = foundation.geometry.crop_size
    whole = functional.interpolate(volume[None, None], size=crop, mode="nearest-exact")  # (1, 1, *crop)
    answer = _answer(foundation, whole, prompt)  # (1, 1, *crop)
    first = functional.interpolate(answer, size=volume.shape, mode="nearest")[0, 0]  # (X, Y, Z)
    found = (first > 0).cpu().numpy()
    region = region_of(found, crop)
    if region is None:
        return ZoomAnswer(first, first, None, np.zeros((0, 3, 2), np.int64))
    place = tuple(slice(first, last + 1) for first, last in region)
    mapped = _mapped(prompt, crop, volume.shape, region)
    closer, boxes = _look_closer(foundation, volume[place], found[place], mapped, np.random.default_rng(seed))
    logits = first.clone()
    logits[place] = closer
    return ZoomAnswer(logits, first, region, boxes)


def region_of(found: NDArray[np.bool_], crop: Sides) -> Ranges | None:
    """What is looked at again: the box around what was found, wide enough for a crop where the volume allows it.

    Args:
        found: (X, Y, Z).
        crop: its sides.

    Returns:
        First and last voxel, (3, 2). The last one may be one beyond the volume, as published. None if nothing is found.
    """
    box = _box_of(found)
    if box is None:
        return None
    pad = np.maximum(0, np.array(crop) - (box[:, 1] - box[:, 0] + 1)) // 2
    return np.stack([np.maximum(0, box[:, 0] - pad), np.minimum(found.shape, box[:, 1] + pad)], axis=1)


def window_starts(size: tuple[int, ...], crop: Sides) -> list[Sides]:
    """First voxels of windows that overlap by half and cover a volume that is as large as a crop at least."""
    along: list[list[int]] = []
    for side, wanted in zip(size, crop, strict=True):
        step = wanted if side == wanted else int(wanted * (1 - _OVERLAP))
        steps = ceil((side - wanted) / step) + 1
        along.append([min(k * step, side - wanted) for k in range(steps)])
    return [(x, y, z) for x, y, z in product(*along)]


def _look_closer(
    foundation: Foundation, image: Tensor, found: NDArray[np.bool_], prompt: ZoomPrompt, random: np.random.Generator
) -> tuple[Tensor, NDArray[np.int64]]:
    """Mean logits of the windows of a region, its shape, and the box that each was given."""
    crop = foundation.geometry.crop_size
    before = [max(0, side - n) // 2 for side, n in zip(crop, image.shape, strict=True)]
    after = [max(0, side - n) - half for side, n, half in zip(crop, image.shape, before, strict=True)]
    padded = functional.pad(image, [n for two in reversed(list(zip(before, after, strict=True))) for n in two])
    shown = np.pad(found, list(zip(before, after, strict=True)))
    total, times, boxes = torch.zeros_like(padded), torch.zeros_like(padded), []
    starts = window_starts(tuple(padded.shape), crop)
    for start in starts:
        window = tuple(slice(first, first + side) for first, side in zip(start, crop, strict=True))
        own = _window_prompt(prompt, start, crop, None if len(starts) == 1 else shown[window], random)
        total[window] += _answer(foundation, padded[window][None, None], own)[0, 0]
        times[window] += 1
        boxes.append(_NOTHING if own.box is None else own.box)
    inner = tuple(slice(half, half + n) for half, n in zip(before, image.shape, strict=True))
    return (total / times)[inner], np.stack(boxes)


def _window_prompt(
    prompt: ZoomPrompt, start: Sides, crop: Sides, shown: NDArray[np.bool_] | None, random: np.random.Generator
) -> ZoomPrompt:
    """What one window is asked: the prompt itself if it is the only one, else by what the first look found in it."""
    box, points = prompt.box, prompt.points
    if points is not None:
        inside = points[((points >= start) & (points < np.add(start, crop))).all(axis=1)]
        points = inside[random.permutation(len(inside))[: 1 + _EXTRA_POINTS]] - np.array(start)
    if shown is not None and (box is not None or points is not None):
        around = _box_of(shown)
        box = _NOTHING if around is None else around
    return ZoomPrompt(box, points if points is not None and len(points) else None, prompt.text)


def _mapped(prompt: ZoomPrompt, crop: Sides, shape: tuple[int, ...], region: Ranges) -> ZoomPrompt:
    """The prompt in voxels of the region. What the region is padded by is not added, as published."""
    seen = np.stack([region[:, 0], np.minimum(region[:, 1], np.array(shape) - 1)], axis=1)
    box = points = None
    if prompt.box is not None:
        box = _in_region(prompt.box, crop, shape, seen)
    if prompt.points is not None:
        cubes = [_in_region(np.stack([point, point], axis=1), crop, shape, seen) for point in prompt.points]
        points = np.concatenate([_voxels_in(cube) for cube in cubes])
    return ZoomPrompt(box, points, prompt.text)


def _in_region(box: Ranges, crop: Sides, shape: tuple[int, ...], seen: Ranges) -> Ranges:
    """Voxels of the region that the first look shows in a box of the crop, (3, 2); all -1 if there are none."""
    ranges = []
    for (first, last), side, n, (start, stop) in zip(box, crop, shape, seen, strict=True):
        shown_in = np.arange(n) * side // n  # as torch's nearest
        voxels = np.flatnonzero((shown_in >= first) & (shown_in <= last))
        voxels = voxels[(voxels >= start) & (voxels <= stop)] - start
        if not voxels.size:
            return _NOTHING
        ranges.append((voxels[0], voxels[-1]))
    return np.array(ranges)


def _voxels_in(box: Ranges) -> NDArray[np.int64]:
    """All voxels of a box, (n, 3)."""
    if (box < 0).any():
        return np.zeros((0, 3), np.int64)
    corner, shape = box[:, 0], box[:, 1] - box[:, 0] + 1
    return np.argwhere(np.ones(shape, dtype=bool)) + corner


def _answer(foundation: Foundation, crop: Tensor, prompt: ZoomPrompt) -> Tensor:
    """Logits of a crop (1, 1, *crop), the same shape."""
    device = crop.device
    points = boxes = None
    if prompt.points is not None:
        coordinates = torch.from_numpy(prompt.points)[None].float().to(device)  # (1, n, 3)
        points = coordinates, torch.ones(coordinates.shape[:2], dtype=torch.long, device=device)
    if prompt.box is not None:
        boxes = torch.from_numpy(prompt.box).t()[None].float().to(device)  # (1, 2, 3)
    embedded = foundation.embed_prompts(points, boxes=boxes, text=prompt.text)
    decoder = foundation.decoder
    logits, _ = decoder.decode(decoder.prepare(foundation.encode(crop)), embedded).answer()
    return functional.interpolate(logits, size=crop.shape[2:], mode="trilinear", align_corners=False)


def _box_of(mask: NDArray[np.bool_]) -> Ranges | None:
    """First and last True along each axis, (3, 2)."""
    sides = []
    for axis in range(3):
        places = np.flatnonzero(mask.any(axis=tuple(other for other in range(3) if other != axis)))
        if not places.size:
            return None
        sides.append((places[0], places[-1]))
    return np.array(sides)
