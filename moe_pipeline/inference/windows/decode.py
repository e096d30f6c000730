"""One decoder on one crop."""

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from moe_pipeline.imaging.crop_grid import WindowIndex
from moe_pipeline.inference.windows.embedding_cache import FLIPS, CropBank, EncodedCrop
from moe_pipeline.inference.windows.placement import plan_windows
from moe_pipeline.mixture.claims import PromptWindow, claim_evidence, first_mask
from moe_pipeline.mixture.model import Mixture
from moe_pipeline.model.foundation import Decoder, Foundation
from moe_pipeline.model.moe.selector import GENERAL, Route
from moe_pipeline.prompts.prompt import BoxPrompt
from moe_pipeline.records.foundation import Sides

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
    box: BoxPrompt | None = None,
    text: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]:
    """Low-resolution logits of one object, averaged over those mirror images of the crop that the decoder knows.

    Args:
        foundation: embeds the prompts.
        decoder: general or expert.
        crop: encoded.
        clicks: those outside the crop are left out.
        mask: previous logits (*low), zeros before the first answer.
        mirror_axes: along which the decoder knows mirror images.
        box: around the object, for a foundation that takes boxes; what of it lies in the crop is shown.
        text: what is wanted, for a foundation that takes text, (1, C).

    Returns:
        (*low).
    """
    corners = None if box is None else box_in_crop(box, crop)
    if box is not None and corners is not None:
        clicks = box.without_centre(*clicks)
    coordinates, labels = in_crop(clicks, crop)
    previous = torch.from_numpy(mask)[None, None].to(crop.embedding.device)  # (1, 1, *low)
    wording = None if text is None else torch.from_numpy(text).to(crop.embedding.device)
    size = crop.crop_grid.view.size_voxels
    answers = []
    for axes, embedding in zip(FLIPS, crop.mirrored, strict=False):
        if not set(axes) <= set(mirror_axes):
            continue
        there = _mirrored(coordinates, axes, size)
        spatial = [axis + 2 for axis in axes]
        boxes = None if corners is None else _mirrored(corners, axes, size).sort(1).values
        prompts = foundation.embed_turn((there, labels), previous.flip(spatial), boxes, wording)
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


def box_in_crop(box: BoxPrompt, crop: EncodedCrop) -> Tensor | None:
    """The part of a box that a crop shows; None where it shows nothing of it.

    Returns:
        Lowest and highest corner, (1, 2, 3) voxels of the crop, on the crop's device.
    """
    size = np.asarray(crop.crop_grid.view.size_voxels)
    voxels = crop.crop_grid.cube(crop.start).world_to_voxel(box.corners_mm)  # (8, 3)
    lowest, highest = voxels.min(axis=0), voxels.max(axis=0)
    if (lowest > size - 0.5).any() or (highest < -0.5).any():
        return None
    shown = np.clip(np.stack([lowest, highest]), 0, size - 1)  # (2, 3)
    return torch.from_numpy(shown).float()[None].to(crop.embedding.device)


def _mirrored(coordinates: Tensor, axes: tuple[int, ...], size: Sides) -> Tensor:
    if not axes:
        return coordinates
    there = coordinates.clone()
    for axis in axes:
        there[..., axis] = size[axis] - 1 - coordinates[..., axis]
    return there


def routes_of(
    model: Mixture,
    bank: CropBank,
    initial_windows: Sequence[WindowIndex],
    known: Sequence[Clicks],
    shown_mm: Sequence[NDArray[np.float64]],
) -> list[tuple[Route, WindowIndex | None]]:
    """Who answers each prompt of a case, and in which window of its own view if that is an expert.

    Args:
        model: the mixture.
        bank: crops of the case.
        initial_windows: of the prompts, in the foundation's view.
        known: the clicks of each prompt that are known at the start.
        shown_mm: (n, 3) each, what its window shall show.
    """
    routes = [route_of(model, bank, window, clicks) for window, clicks in zip(initial_windows, known, strict=True)]
    answers: dict[int, tuple[Route, WindowIndex | None]] = {}
    refused: dict[int, set[int]] = {index: set() for index in range(len(routes))}
    while left := [index for index in range(len(routes)) if index not in answers]:
        windows = _expert_windows(
            model, bank, {index: routes[index].expert for index in left}, initial_windows, shown_mm
        )
        for index in left:
            named, own = routes[index], windows.get(index)
            if own is None:
                answers[index] = named, None
                continue
            route = decided_route(model, bank, named, (initial_windows[index], own), known[index])
            if route.expert == GENERAL and model.router is not None and model.router.is_added(named.expert):
                refused[index].add(named.expert)  # as if it were not there
                routes[index] = route_of(model, bank, initial_windows[index], known[index], refused[index])
            else:
                answers[index] = route, own if route.expert != GENERAL else None
    return [answers[index] for index in range(len(routes))]


def _expert_windows(
    model: Mixture,
    bank: CropBank,
    named: Mapping[int, int],
    initial_windows: Sequence[WindowIndex],
    shown_mm: Sequence[NDArray[np.float64]],
) -> dict[int, WindowIndex]:
    """The window of each prompt that the gate names an expert for, in that expert's view: as few as will do."""
    found: dict[int, WindowIndex] = {}
    for output in sorted(set(named.values()) - {GENERAL}):
        view = model.experts[output - 1].view
        own = [index for index, expert in named.items() if expert == output]
        if view == model.view:
            windows = [initial_windows[index] for index in own]
        else:
            windows = plan_windows(bank.crop_grid(view), [shown_mm[index] for index in own])
        found |= dict(zip(own, windows, strict=True))
    return found


def decided_route(
    model: Mixture, bank: CropBank, named: Route, windows: tuple[WindowIndex, WindowIndex], known: Clicks
) -> Route:
    """Whether the expert that the gate named answers a prompt.

    Args:
        model: the mixture.
        bank: crops of the case.
        named: by `route_of`.
        windows: in the foundation's view and in the expert's.
        known: the clicks at the start; the first of them is looked at.
    """
    head = model.claim_head(named.expert)
    if head is None:
        return named
    expert, first = model.experts[named.expert - 1], (known[0][:1], known[1][:1])
    seen, own = bank.crop(model.view, windows[0]), bank.crop(expert.view, windows[1])
    general_window, own_window = (
        PromptWindow(crop.embedding, in_crop(first, crop)[0][0, 0], crop.crop_grid.voxels.spacing_mm)
        for crop in (seen, own)
    )
    place = known[0][0].tobytes()  # further clicks leave the first answers as they are
    decoder, spoken = model.foundation.decoder, expert.decoder
    general = bank.once(
        (decoder, model.view, windows[0], place), lambda: first_mask(model.foundation, decoder, general_window)
    )
    answer = bank.once(
        (spoken, expert.view, windows[1], place), lambda: first_mask(model.foundation, spoken, own_window)
    )
    ood = model.ood_score(named.expert, seen.embedding, *in_crop(known, seen))
    return model.decided(
        named, claim_evidence(answer, general, expert.click_proposer, own_window, ood, head.ood_detector)
    )


def route_of(
    model: Mixture, bank: CropBank, initial_window: WindowIndex, known: Clicks, refused: Collection[int] = ()
) -> Route:
    """Who answers a prompt, or with claims whom the gate names for it.

    It looks at the clicks known at the start, in the crop of the foundation's view.
    """
    seen = bank.crop(model.view, initial_window)
    return model.route(seen.embedding, *in_crop(known, seen), refused)
