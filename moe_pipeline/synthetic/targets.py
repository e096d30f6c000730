"""Which objects of a label map are to be segmented."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import max_pool3d

from moe_pipeline.synthetic import labels
from moe_pipeline.synthetic.draws import Draws

_ROUNDS = 10  # sweeps along the three axes; enough for all but labyrinths


def same_component(masks: Tensor, lottery: Tensor) -> Tensor:
    """Keep of each mask what is connected with one of its voxels, judged on every second voxel.

    Args:
        masks: (n, k, S, S, S) bool.
        lottery: (n, S, S, S); the voxel of the mask with the highest number is the start.

    Returns:
        (n, k, S, S, S) bool, a subset of `masks`.
    """
    n, k, size = masks.shape[:3]
    coarse = max_pool3d(masks.reshape(n * k, 1, size, size, size).float(), 2)[:, 0] > 0  # (n*k, h, h, h)
    tickets = lottery[:, None, ::2, ::2, ::2].expand(n, k, *coarse.shape[1:]).reshape(coarse.shape)
    start = torch.where(coarse, tickets, -torch.inf).reshape(n * k, -1).argmax(1, keepdim=True)
    reached = torch.zeros(n * k, coarse[0].numel(), dtype=torch.bool, device=masks.device).scatter_(1, start, True)
    reached = _flood(coarse, reached.reshape(coarse.shape)).reshape(n, k, *coarse.shape[1:])
    for axis in (-3, -2, -1):
        reached = reached.repeat_interleave(2, axis)
    return masks & reached


def _flood(masks: Tensor, reached: Tensor) -> Tensor:
    """(m, h, h, h) bool: `reached` grown inside `masks`, a whole straight run at a time, axis after axis."""
    runs = [_runs(masks, axis) for axis in (-3, -2, -1)]
    for _ in range(_ROUNDS):
        for run in runs:
            hit = torch.zeros(2 * masks.numel(), dtype=torch.uint8, device=masks.device)
            hit.scatter_reduce_(0, run, reached.flatten().to(torch.uint8), "amax")
            reached = (hit[run] > 0).reshape(masks.shape) & masks
    return reached


def _runs(masks: Tensor, axis: int) -> Tensor:
    """(m*h*h*h,) int64: voxels of one straight, unbroken run of the mask share a number."""
    size = masks.shape[axis]
    within = (~masks).long().cumsum(axis)  # 0 to size
    lines = masks.numel() // size
    line = torch.arange(lines, device=masks.device).reshape(masks.movedim(axis, -1).shape[:-1])
    return (within + line.unsqueeze(axis) * (size + 1)).flatten()


SMALLEST, LARGEST = 2e-4, 0.6
"""Share of the crop that a target takes."""

_LAYERS = (
    ((labels.SKIN,), 0.1),
    ((labels.FAT,), 0.4),
    ((labels.MUSCLE,), 0.4),
    ((labels.BONE,), 0.6),
    ((labels.LUNG,), 0.8),
    ((labels.FILLING,), 0.15),
    ((labels.SCALP,), 0.1),
    ((labels.SKULL,), 0.3),
    ((labels.FLUID,), 0.2),
    ((labels.CORTEX,), 0.4),
    ((labels.WHITE,), 0.5),
    ((labels.VENTRICLE,), 1.0),
    ((labels.NUCLEUS_LEFT,), 1.0),
    ((labels.NUCLEUS_RIGHT,), 1.0),
    ((labels.CORTEX, labels.WHITE), 0.3),
    (tuple(range(labels.FLUID, labels.NUCLEUS_RIGHT + 1)), 0.3),
)
_CELL_WEIGHT, _BAND_WEIGHT = 0.3, 0.5
_WHOLE_BODY_WEIGHT = 0.3
_GUARANTEED_WEIGHT = 2.0
_SIZE_POWER = 0.35
"""Small candidates are many and would be nearly all targets: weights grow with this power of the volume."""


def object_candidates() -> list[tuple[list[int], float]]:
    """Each object as a whole, its core, rim, centre and halves; a parent with and without its child."""
    candidates: list[tuple[list[int], float]] = []
    child = list(labels.of_object(labels.CHILD))
    for slot in range(labels.N_OBJECTS):
        members = list(labels.of_object(slot))
        bits = [member - members[0] for member in members]
        whole = members + (child if slot == labels.PARENT else [])
        candidates.append((whole, _GUARANTEED_WEIGHT if slot == labels.MAIN else 1.5))
        candidates.append(([m for m, bit in zip(members, bits, strict=True) if bit & labels.IN_CORE], 0.6))
        candidates.append(([m for m, bit in zip(members, bits, strict=True) if not bit & labels.IN_CORE], 0.25))
        candidates.append(([m for m, bit in zip(members, bits, strict=True) if bit & labels.IN_CENTRE], 0.4))
        if slot >= labels.TWIN:
            behind = [m for m, bit in zip(members, bits, strict=True) if bit & labels.IN_SECOND_PART]
            candidates.append((behind, 1.5))
            candidates.append(([m for m in members if m not in behind], 1.5))
    both = [*labels.of_object(labels.TWIN), *labels.of_object(labels.MAIN)]
    return [*candidates, (both, 0.0)]


@dataclass(frozen=True, slots=True)
class TargetChoices:
    """What may be chosen."""

    membership: Tensor
    """(c, 256): 1 for the labels that belong to one of them."""
    weights: Tensor
    """(c,): how likely one is chosen against others of its size; 0 only if there is nothing else."""

    @classmethod
    def of(cls, rows: list[tuple[list[int], float]]) -> "TargetChoices":
        """From the labels of each and its weight."""
        membership = torch.zeros(len(rows), labels.N_LABELS)
        for row, (members, _) in enumerate(rows):
            membership[row, members] = 1
        return cls(membership, torch.tensor([weight for _, weight in rows]))


def _synthetic_choices() -> TargetChoices:
    everything = [label for label in range(labels.N_LABELS) if label not in (labels.AIR, labels.OUTSIDE)]
    rows = [([cell], _CELL_WEIGHT) for cell in labels.CELLS]
    rows += [([band], _BAND_WEIGHT) for band in labels.BANDS]
    rows += [([blob], _BAND_WEIGHT) for blob in labels.BLOBS]
    rows += [(list(labels.BANDS[at : at + 4]), _BAND_WEIGHT) for at in range(0, len(labels.BANDS), 4)]
    rows += [(list(members), weight) for members, weight in _LAYERS]
    rows += [(everything, _WHOLE_BODY_WEIGHT), *object_candidates()]
    return TargetChoices.of(rows)


def choose_targets(draws: Draws, painted: Tensor, count: int, choices: TargetChoices | None = None) -> Tensor:
    """Choose distinct objects that a human might click.

    Args:
        draws: the batch's random numbers.
        painted: (n, S, S, S) uint8 labels, OUTSIDE beyond the field of view.
        count: targets per sample.
        choices: what to choose from; all that synthetic scenes hold if None.

    Returns:
        (n, count, S, S, S) bool; where a sample has fewer objects, they repeat.
    """
    numbers = draws.section("targets")
    choices = choices or _synthetic_choices()
    membership, weights = choices.membership.to(painted.device), choices.weights.to(painted.device)
    n, n_voxels = painted.shape[0], painted[0].numel()
    flat = painted.reshape(n, -1).long()
    volumes = torch.zeros(n, labels.N_LABELS, device=painted.device)
    volumes.scatter_add_(1, flat, torch.ones_like(flat, dtype=volumes.dtype))
    share = volumes @ membership.T / n_voxels  # (n, c)
    fits = (share >= SMALLEST) & (share <= LARGEST) & (weights > 0)
    fits &= ~_repeats(share)
    gumbel = -torch.log(-torch.log(numbers.uniform(len(weights), low=1e-6, high=1 - 1e-6)))
    likely = weights.log() + _SIZE_POWER * share.clamp(min=SMALLEST).log() + gumbel
    order = torch.where(fits, likely, -torch.inf)
    order = torch.where(
        fits.any(1, keepdim=True), order, torch.where(share > 0, -(share - LARGEST / 2).abs(), -torch.inf)
    )
    best = order.topk(min(count, len(weights)), dim=1)
    usable = (best.values > -torch.inf).sum(1, keepdim=True).clamp(min=1)  # (n, 1)
    turn = torch.arange(count, device=painted.device) % usable  # (n, count)
    chosen = best.indices.gather(1, turn)
    table = membership[chosen].bool()  # (n, count, 256)
    masks = table.gather(2, flat[:, None].expand(n, count, n_voxels)).reshape(n, count, *painted.shape[1:])
    return _one_component(masks, draws.white[:, 0])


def _repeats(share: Tensor) -> Tensor:
    """(n, c): candidates with exactly the volume of an earlier one: an object without a rim is its own core."""
    same = share[:, :, None] == share[:, None, :]  # (n, c, c)
    return same.tril(-1).any(-1)


def _one_component(masks: Tensor, lottery: Tensor) -> Tensor:
    """Keep the connected part around one random voxel, unless that part is too small."""
    n_voxels = masks[0, 0].numel()
    part = same_component(masks, lottery)
    large = part.sum((-3, -2, -1), keepdim=True) >= SMALLEST * n_voxels
    return torch.where(large, part, masks)
