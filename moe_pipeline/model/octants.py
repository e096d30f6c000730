"""Low-resolution masks of a grid of tokens that is doubled twice, octant by octant."""

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor

from moe_pipeline.model.cpu_kernels import multiply

Grid: TypeAlias = tuple[int, int, int]
"""Tokens along each axis."""

Upscale: TypeAlias = Callable[[Tensor], Tensor]
"""Some tokens (P, n, C) to the features of octants of octants, (P, 8 * n, 8 * c)."""

_TOKENS_AT_ONCE = 128


def low_resolution_masks(image: Tensor, kernels: Tensor, grid: Grid, upscale: Upscale) -> Tensor:
    """Upscale the image tokens and weigh their channels.

    Args:
        image: tokens of P prompts, (P, N, C).
        kernels: for m masks, (P, m, c).
        grid: N = X * Y * Z.
        upscale: of some tokens of one prompt, or of all.

    Returns:
        (P, m, 4 X, 4 Y, 4 Z).
    """
    by_octant = _for_each_octant(kernels)
    if image.device.type == "cpu":  # small parts stay in the cache; whole prompts where gradients need all of them
        step = image.shape[1] if torch.is_grad_enabled() else _TOKENS_AT_ONCE
        whole = []
        for tokens, kernel in zip(torch.split(image, 1), torch.split(by_octant, 1), strict=True):
            parts = [multiply(upscale(part), kernel) for part in torch.split(tokens, step, dim=1)]
            whole.append(torch.cat(parts, dim=1))
        logits = torch.cat(whole)
    else:
        logits = multiply(upscale(image), by_octant)  # (P, 8 * N, 8 * m)
    x, y, z = grid
    logits = logits.reshape(-1, x, y, z, 2, 2, 2, 2, 2, 2, kernels.shape[1])
    logits = logits.permute(0, 10, 1, 4, 7, 2, 5, 8, 3, 6, 9)  # (P, m, x, 2, 2, y, 2, 2, z, 2, 2)
    return logits.reshape(logits.shape[0], logits.shape[1], 4 * x, 4 * y, 4 * z)


def _for_each_octant(kernels: Tensor) -> Tensor:
    """The same kernel for each of eight octants: (P, m, c) -> (P, 8 * m, 8 * c), zero between different octants."""
    n_prompts, n_masks, width = kernels.shape
    eight = torch.eye(8, device=kernels.device, dtype=kernels.dtype)
    spread = eight[:, None, :, None] * kernels[:, None, :, None, :]  # (P, 8, m, 8, c)
    return spread.reshape(n_prompts, 8 * n_masks, 8 * width)
