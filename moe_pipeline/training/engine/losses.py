"""What a mask and its predicted quality are trained on."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from moe_pipeline.model.foundation import Candidates

_SMOOTH = 1e-5
_LARGEST_WEIGHT = 50.0
_CHOICE_TEMPERATURE = 0.05  # IoU by which another mask must be better to be the right choice nearly for sure
_SIZE_LIMITS = (0.005, 0.04)
"""Shares of the cube at which one mask hands over to the next: balls of 10 and 20 % of its edge in radius."""


def occupancy(target: Tensor, size: Sequence[int]) -> Tensor:
    """Fraction of each low-resolution voxel that the target fills.

    The loss is taken on the decoder's own grid: a soft target keeps what a hard one would round away, and the
    logits need no upsampling.

    Args:
        target: (P, 1, *crop) bool, each side a multiple of that of `size`.
        size: sides of the low-resolution grid.

    Returns:
        (P, 1, *size) float32 in [0, 1].
    """
    x, y, z = (side // low for side, low in zip(target.shape[2:], size, strict=True))
    return functional.avg_pool3d(target.float(), (x, y, z))  # (P, 1, *size)


def dice_loss(logits: Tensor, target: Tensor) -> Tensor:
    """1 - soft Dice with squared denominators, per prompt.

    Args:
        logits: (P, 1, d, h, w).
        target: the same shape, in [0, 1].

    Returns:
        (P,) in [0, 1].
    """
    probabilities = logits.float().sigmoid().flatten(1)
    truth = target.flatten(1)
    overlap = (probabilities * truth).sum(1)
    total = probabilities.square().sum(1) + truth.square().sum(1)
    return 1 - (2 * overlap + _SMOOTH) / (total + _SMOOTH)


def mask_loss(logits: Tensor, target: Tensor, balance: float = 0.0) -> Tensor:
    """Dice plus cross-entropy, equally weighted as upstream does; (P,).

    Args:
        logits: (P, 1, d, h, w).
        target: the same shape, in [0, 1].
        balance: from 0 to 1, how far the cross-entropy of small objects is weighed up to that of their surroundings
            (at most 50 times). Without it a network that knows nothing yet learns to answer with nothing.
    """
    truth = target.flatten(1)
    cross_entropy = functional.binary_cross_entropy_with_logits(logits.float(), target, reduction="none").flatten(1)
    rarity = (0.5 / truth.mean(1, keepdim=True).clamp(min=1e-3)).clamp(max=_LARGEST_WEIGHT)  # (P, 1)
    return dice_loss(logits, target) + (cross_entropy * (1 + balance * rarity * truth)).mean(1)


@torch.no_grad()
def iou_of_logits(logits: Tensor, target: Tensor) -> Tensor:
    """Intersection over union of `logits > 0` and `target >= 0.5`, (P, m); 1 where both are empty.

    Args:
        logits: (P, m, d, h, w).
        target: (P, 1, d, h, w), in [0, 1].
    """
    prediction, truth = (logits > 0).flatten(2), (target >= 0.5).flatten(2)
    union = (prediction | truth).sum(2)
    overlap = (prediction & truth).sum(2)
    return torch.where(union > 0, overlap / union.clamp(min=1), 1.0)


def interaction_loss(candidates: Candidates, target: Tensor, iou_weight: float, balance: float = 0.0) -> Tensor:
    """Mask loss, squared error of the IoU head against the IoU really reached, and loss of the choice; a scalar.

    Where the decoder chooses, each mask learns objects of one range of sizes, since how large an object is meant is
    what one click leaves open. Mask losses are then not shared by luck, as where the best mask of the moment learns,
    so none of the masks can be left behind.

    Args:
        candidates: masks and their IoU.
        target: (P, 1, d, h, w) occupancy.
        iou_weight: weight of the IoU head and of the choice.
        balance: see `mask_loss`.
    """
    rows = torch.arange(len(target), device=target.device)
    first = candidates.chosen > 0  # (P,)
    learning = torch.where(first, 1 + size_class(target, candidates.logits.shape[1] - 1), 0)  # (P,)
    logits = candidates.logits[rows, learning][:, None]  # (P, 1, d, h, w)
    reached = iou_of_logits(candidates.logits, target)  # (P, m)
    compete = _competing(candidates)
    error = (candidates.iou.float() - reached).square()
    quality = ((error * compete).sum(1) / compete.sum(1)).mean()
    if candidates.preference is not None:
        quality = quality + (choice_loss(candidates.preference, reached[:, 1:]) * first).mean()
    return mask_loss(logits, target, balance).mean() + iou_weight * quality


def imitation_loss(candidates: Candidates, taught: Candidates, iou_weight: float) -> Tensor:
    """How far every mask that could be the answer is from a teacher's, with its quality and the choice; a scalar.

    All that the teacher says is learnt from, what it leaves open, too (distillation, Hinton et al. 2015), so a few
    prompts tell more than by their truth.

    Args:
        candidates: masks and their IoU.
        taught: the teacher's, on the same prompts.
        iou_weight: weight of the IoU head and of the choice.
    """
    compete = _competing(taught)
    logits, wanted = candidates.logits[compete][:, None], taught.logits[compete][:, None].float().sigmoid()
    quality = (candidates.iou[compete].float() - taught.iou[compete].float()).square().mean()
    if candidates.preference is not None and taught.preference is not None:
        choice = _cross_entropy(taught.preference.float().softmax(1), candidates.preference)  # (P,)
        quality = quality + (choice * (taught.chosen > 0)).mean()
    return mask_loss(logits, wanted).mean() + iou_weight * quality


def choice_loss(preference: Tensor, reached: Tensor) -> Tensor:
    """Cross-entropy of a choice of masks against one that knows their IoU, (P,).

    Args:
        preference: (P, m) log-odds.
        reached: (P, m) IoU.
    """
    return _cross_entropy((reached / _CHOICE_TEMPERATURE).softmax(1), preference)


def _cross_entropy(wanted: Tensor, preference: Tensor) -> Tensor:
    """Of log-odds (P, m) against shares (P, m); (P,)."""
    return -(wanted * preference.float().log_softmax(1)).sum(1)


def _competing(candidates: Candidates) -> Tensor:
    """Masks of which one is the answer, (P, m) bool: those of a first click where one of them was chosen, else 0."""
    number = torch.arange(candidates.logits.shape[1], device=candidates.chosen.device)  # (m,)
    return (number > 0) == (candidates.chosen > 0)[:, None]


def size_class(target: Tensor, n_classes: int) -> Tensor:
    """Which of the masks for a first click learns an object, by its share of the cube: (P,) in [0, n_classes).

    Args:
        target: (P, 1, d, h, w), in [0, 1].
        n_classes: masks to choose from.
    """
    limits = torch.tensor(_SIZE_LIMITS[: max(n_classes - 1, 0)], device=target.device)
    return torch.bucketize(target.flatten(1).mean(1), limits)
