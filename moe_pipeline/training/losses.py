"""What a mask and its predicted quality are trained on."""

import torch
from torch import Tensor
from torch.nn import functional

_SMOOTH = 1e-5
_LARGEST_WEIGHT = 50.0


def occupancy(target: Tensor, size: int) -> Tensor:
    """Fraction of each low-resolution cell that the target fills.

    The loss is taken on the decoder's own grid: a soft target keeps what a hard one would round away, and the
    logits need no upsampling.

    Args:
        target: (P, 1, S, S, S) bool, S a multiple of `size`.
        size: edge of the low-resolution grid.

    Returns:
        (P, 1, size, size, size) float32 in [0, 1].
    """
    factor = target.shape[-1] // size
    return functional.avg_pool3d(target.float(), factor)  # (P, 1, size, size, size)


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
    """Intersection over union of `logits > 0` and `target >= 0.5`; (P, 1); 1 where both are empty."""
    prediction, truth = (logits > 0).flatten(1), (target >= 0.5).flatten(1)
    union = (prediction | truth).sum(1)
    overlap = (prediction & truth).sum(1)
    return torch.where(union > 0, overlap / union.clamp(min=1), 1.0)[:, None]


def interaction_loss(logits: Tensor, iou: Tensor, target: Tensor, iou_weight: float, balance: float = 0.0) -> Tensor:
    """Mask loss plus the squared error of the IoU head against the IoU really reached; a scalar.

    Args:
        logits: (P, 1, d, h, w).
        iou: (P, 1), the decoder's own estimate.
        target: (P, 1, d, h, w) occupancy.
        iou_weight: weight of the IoU head.
        balance: see `mask_loss`.
    """
    quality = functional.mse_loss(iou.float(), iou_of_logits(logits, target))
    return mask_loss(logits, target, balance).mean() + iou_weight * quality
