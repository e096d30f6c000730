"""Connected parts of masks, without a loop over voxels."""

import torch
from torch import Tensor
from torch.nn.functional import max_pool3d

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
