"""What the decoder is told about each of its low-resolution voxels directly; an addition of ours, off in SAM-Med3D.

A token has to carry all that is known of 64 low-resolution voxels. That can be learnt, given weeks. For networks
that learn for hours the encoder also hands over features per low-resolution voxel (`pyramid.py`), and the prompt
encoder the previous answer and the nearness of the clicks. They travel as further channels of the embedding and of
the dense prompt: the 64 low-resolution voxels of a token one after the other, so that whatever stores, batches or
moves embeddings need not know of them.
"""

import torch
from torch import Tensor

from moe_pipeline.model.layers import channels_first, channels_last

VOXELS_PER_TOKEN = 64
"""Low-resolution low-resolution voxels behind a token."""
_REACHES_VOXELS = (1.5, 4.0, 12.0)
PROMPT_FEATURES = 1 + 2 * len(_REACHES_VOXELS)
"""Per voxel: the previous answer, and the nearness of clicks inside and outside the object at each reach."""
_INSIDE, _OUTSIDE = 1, 1 + len(_REACHES_VOXELS)  # the sharpest of each


def pack(grid: Tensor) -> Tensor:
    """Features of low-resolution voxels as channels of tokens: (B, D, 4 g, 4 g, 4 g) -> (B, 64 D, g, g, g).

    A token's low-resolution voxels stand in the order in which the decoder doubles the grid twice: octants of
    octants, then features. In memory the channels of a token are together, which is how the decoder reads them.
    """
    n_grids, n_features, size = grid.shape[:3]
    g = size // 4
    low_res_voxels = grid.reshape(n_grids, n_features, g, 2, 2, g, 2, 2, g, 2, 2)
    tokens = low_res_voxels.permute(0, 2, 5, 8, 3, 6, 9, 4, 7, 10, 1).reshape(
        n_grids, g, g, g, VOXELS_PER_TOKEN * n_features
    )
    return channels_first(tokens)


def unpack(packed: Tensor) -> Tensor:
    """The inverse of `pack`, features of a voxel together in memory: (B, 64 D, g, g, g) -> (B, D, l, l, l)."""
    return grid_of(channels_last(packed))


def grid_of(tokens: Tensor) -> Tensor:
    """Low-resolution voxels in the order of `pack` on their grid: (B, g, g, g, 64 D) -> (B, D, 4 g, 4 g, 4 g)."""
    n_grids, g = tokens.shape[:2]
    low_res_voxels = tokens.reshape(n_grids, g, g, g, 2, 2, 2, 2, 2, 2, -1).permute(0, 1, 4, 7, 2, 5, 8, 3, 6, 9, 10)
    return channels_first(low_res_voxels.reshape(n_grids, 4 * g, 4 * g, 4 * g, -1))


def prompt_features_per_voxel(
    points: tuple[Tensor, Tensor] | None, mask: Tensor | None, n_prompts: int, size: int, low_res_stride: int
) -> Tensor:
    """What a prompt says about each low-resolution voxel.

    Args:
        points: coordinates (P, n, 3) in voxels, and labels (P, n): 1 inside, 0 outside, others ignored.
        mask: previous logits (P, 1, l, l, l).
        n_prompts: P.
        size: l.
        low_res_stride: voxels along the edge of a low-resolution voxel.

    Returns:
        (P, 64 * PROMPT_DETAILS, g, g, g), g = l / 4.
    """
    some = points[0] if points is not None else mask
    device = some.device if some is not None else None
    prompt_features = torch.zeros(n_prompts, PROMPT_FEATURES, size, size, size, device=device)
    if mask is not None:
        prompt_features[:, 0] = torch.tanh(mask[:, 0].float() / 4)
    if points is not None:
        prompt_features[:, 1:] = _nearness(*points, size, low_res_stride)
    return pack(prompt_features)


def clicked_voxels(prompt_features: Tensor) -> Tensor:
    """Weights of voxels: at clicks inside, at clicks outside, and where the previous answer is the object.

    Args:
        prompt_features: details of prompts, (P, l, l, l, PROMPT_DETAILS).

    Returns:
        (P, 3, l, l, l), not negative.
    """
    return torch.stack(
        [prompt_features[..., _INSIDE], prompt_features[..., _OUTSIDE], prompt_features[..., 0].clamp(min=0)], dim=1
    )


def _nearness(coordinates: Tensor, labels: Tensor, size: int, low_res_stride: int) -> Tensor:
    """(P, 2 * reaches, l, l, l): of clicks inside, then outside, each with short to long reaches."""
    centres = (torch.arange(size, device=coordinates.device) + 0.5) * low_res_stride - 0.5  # (l,) in voxels
    squared = (centres - coordinates.float()[..., None]).square()  # (P, n, 3, l)
    signs = torch.stack([labels == 1, labels == 0]).float()  # (2, P, n)
    fields = []
    for sign in signs:
        for reach in _REACHES_VOXELS:
            along = torch.exp(-squared / (2 * reach**2))  # (P, n, 3, l)
            x, y, z = along.unbind(2)
            plane = torch.einsum("pnx,pny->pnxy", x * sign[..., None], y)
            fields.append(torch.einsum("pnxy,pnz->pxyz", plane, z).clamp(max=1))
    return torch.stack(fields, dim=1)
