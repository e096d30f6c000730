"""The simulated user: clicks drawn from where a mask is still wrong, and the sequence they make with a decoder."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from moe_pipeline.model.foundation import Candidates, Decoder, Foundation, PromptEmbedding
from moe_pipeline.model.geometry import Sides
from moe_pipeline.model.layers import upsample


@dataclass(frozen=True, slots=True)
class ClickState:
    """What a click sequence goes on from.

    Attributes:
        coordinates: (P, n, 3) voxels of the crop, in tensor axis order, all clicks so far.
        labels: (P, n), 1 inside, 0 outside.
        logits: (P, 1, *low), low resolution, the last answer.
    """

    coordinates: Tensor
    labels: Tensor
    logits: Tensor


@dataclass(frozen=True, slots=True)
class InteractionStep(ClickState):
    """What the decoder says after each click.

    Attributes:
        iou: (P, 1), the decoder's own estimate.
        candidates: all masks that it chose from.
        prompts: what it was asked.
    """

    iou: Tensor
    candidates: Candidates
    prompts: PromptEmbedding

    def remembered(self) -> ClickState:
        """What the click sequence goes on from, without gradient."""
        return ClickState(self.coordinates, self.labels, self.logits.detach().float())


@dataclass(frozen=True, slots=True)
class SequenceHints:
    """What a click sequence is told of its objects beside clicks, from its first turn on.

    Attributes:
        boxes: around them, (P, 2, 3) voxels of the crop. The first click is then not said: the box stands for it.
        text: their names, as the foundation's text encoder gives them, (P, C).
    """

    boxes: Tensor | None = None
    text: Tensor | None = None


NO_HINTS = SequenceHints()


@dataclass(frozen=True, slots=True)
class BatchPart:
    """Some prompts of a larger batch that several processes share; each prompt gets the clicks it gets there."""

    start: int
    """The first of them."""
    total: int
    """Prompts in the whole batch."""


def full_size(logits: Tensor, size: Sequence[int]) -> Tensor:
    """Low-resolution logits on the crop's grid, as upstream does: trilinear; (P, 1, *size)."""
    x, y, z = size
    return upsample(logits.float(), (x, y, z))


def draw_click(region: Tensor, generator: torch.Generator, part: BatchPart | None = None) -> Tensor:
    """One voxel per prompt, uniform over a region; uniform over the whole crop where the region is empty.

    Args:
        region: (P, 1, *crop) bool.
        generator: on the CPU, so that the same seed gives the same clicks on every device.
        part: which prompts of a batch these are; all if None.

    Returns:
        (P, 3) integer voxel coordinates in tensor axis order.
    """
    _, _, n_x, n_y, n_z = region.shape
    rows = region.reshape(len(region), n_x * n_y, n_z)  # (P, rows, Z)
    counts = rows.sum(2, dtype=torch.int32)  # (P, rows): first the row, then the voxel in it, in the order of memory
    empty = counts.sum(1, keepdim=True) == 0  # (P, 1)
    counts = counts.where(~empty, n_z)
    ends = counts.cumsum(1, dtype=torch.int32)  # (P, rows)
    part = part or BatchPart(0, len(region))
    shares = torch.rand(part.total, 1, generator=generator)
    share = shares[part.start : part.start + len(region)].to(region.device)
    rank = (share * ends[:, -1:]).to(torch.int32).clamp(max=ends[:, -1:] - 1)  # (P, 1) in [0, count)
    row = torch.searchsorted(ends, rank, right=True)  # (P, 1)
    rank = rank - (ends - counts).gather(1, row)  # within the row
    voxels = rows.take_along_dim(row[..., None], dim=1)[:, 0] | empty  # (P, Z)
    place = torch.searchsorted(voxels.cumsum(1, dtype=torch.int32), rank, right=True)  # (P, 1)
    return torch.cat((row // n_y, row % n_y, place), dim=1)  # (P, 3)


def next_click(
    mask: Tensor, target: Tensor, generator: torch.Generator, part: BatchPart | None = None
) -> tuple[Tensor, Tensor]:
    """A click in the error region, as upstream trains: uniform over missed and invented voxels together.

    Args:
        mask: (P, 1, *crop) bool, the current answer (all False before the first click).
        target: (P, 1, *crop) bool.
        generator: source of the random numbers.
        part: which prompts of a batch these are; all if None.

    Returns:
        Coordinates (P, 1, 3) float32 and labels (P, 1) int64: 1 if the voxel belongs to the target. Where nothing
        is wrong any more the click falls anywhere, with the label that is true there.
    """
    voxels = draw_click(mask != target, generator, part)  # (P, 3)
    prompts = torch.arange(len(voxels), device=target.device)
    labels = target[prompts, 0, voxels[:, 0], voxels[:, 1], voxels[:, 2]].long()
    return voxels.float()[:, None], labels[:, None]


def click_sequence(
    foundation: Foundation,
    decoder: Decoder,
    embedding: Tensor,
    target: Tensor,
    n_clicks: int,
    generator: torch.Generator,
    part: BatchPart | None = None,
    after: ClickState | None = None,
    hints: SequenceHints = NO_HINTS,
) -> Iterator[InteractionStep]:
    """Click, answer, click where the answer is wrong: upstream's interactive recipe, one `InteractionStep` per click.

    Every step sees all clicks so far and the previous low-resolution logits (zeros before the first), detached, so
    that the caller may sum losses over steps or go backward after each. Whoever wants no gradient from a step asks for
    it under `torch.no_grad`; the embedding is prepared at once, so that it keeps its own.

    Args:
        foundation: embeds the prompts.
        decoder: general or expert.
        embedding: (P, C, *grid), or (1, C, *grid) shared by all prompts.
        target: (P, 1, *crop) bool.
        n_clicks: how many clicks.
        generator: source of the clicks.
        part: which prompts of a batch these are; all if None.
        after: to go on with an earlier click sequence.
        hints: what is told beside.
    """
    prepared = decoder.prepare(embedding)
    return _turns(foundation, decoder, prepared, target, n_clicks, generator, part, after, hints)


def _turns(
    foundation: Foundation,
    decoder: Decoder,
    prepared: Any,
    target: Tensor,
    n_clicks: int,
    generator: torch.Generator,
    part: BatchPart | None,
    after: ClickState | None,
    hints: SequenceHints,
) -> Iterator[InteractionStep]:
    said = slice(None) if hints.boxes is None else slice(1, None)
    state = after or _initial_state(target, foundation.geometry.low_resolution_size)
    for _ in range(n_clicks):
        mask = full_size(state.logits, target.shape[2:]) > 0  # (P, 1, *crop)
        new_coordinates, new_labels = next_click(mask, target, generator, part)
        coordinates = torch.cat((state.coordinates, new_coordinates), dim=1)  # (P, n, 3)
        labels = torch.cat((state.labels, new_labels), dim=1)  # (P, n)
        points = coordinates[:, said], labels[:, said]
        prompts = foundation.embed_turn(points, state.logits, hints.boxes, hints.text)
        candidates = decoder.decode(prepared, prompts)
        answer = InteractionStep(coordinates, labels, *candidates.answer(), candidates, prompts)
        yield answer
        state = answer.remembered()


def _initial_state(target: Tensor, low: Sides) -> ClickState:
    """No clicks and an empty answer."""
    return ClickState(
        coordinates=torch.empty(len(target), 0, 3, device=target.device),
        labels=torch.empty(len(target), 0, dtype=torch.long, device=target.device),
        logits=torch.zeros(len(target), 1, *low, device=target.device),
    )


def boxes_around(target: Tensor, jitter: float, generator: torch.Generator) -> Tensor:
    """Boxes as a person would draw them: each face is moved by up to a part of the object's length, in or out.

    Args:
        target: (P, 1, *crop) bool.
        jitter: that part.
        generator: on the CPU.

    Returns:
        Lowest and highest voxel, (P, 2, 3); all -1 around nothing.
    """
    faces = []
    for axis in range(3):
        others = tuple(2 + other for other in range(3) if other != axis)
        there = target.any(dim=others[1]).any(dim=others[0])[:, 0].to(torch.uint8)  # (P, side)
        first, last = there.argmax(1), there.shape[1] - 1 - there.flip(1).argmax(1)  # (P,)
        faces.append(torch.stack([first, last], dim=1))
    boxes = torch.stack(faces, dim=2).float()  # (P, 2, 3)
    moved = (2 * torch.rand(boxes.shape, generator=generator) - 1).to(boxes) * jitter
    boxes = boxes + (moved * (boxes[:, 1:] - boxes[:, :1])).round()
    last_voxel = torch.tensor(target.shape[2:], device=boxes.device) - 1
    boxes = boxes.clamp(min=torch.zeros_like(last_voxel), max=last_voxel)
    return torch.where(target.flatten(1).any(1)[:, None, None], boxes, -1.0)
