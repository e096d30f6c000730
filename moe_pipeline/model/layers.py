"""Layers that several parts share."""

from functools import cache
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from moe_pipeline.model.cpu_kernels import affine
from moe_pipeline.model.geometry import Sides


def upsample(grids: Tensor, size: Sides) -> Tensor:
    """As `F.interpolate` in trilinear mode without aligned corners: (P, 1, *low) -> (P, 1, *size).

    On a CPU as three matrix products, one per axis, which is several times faster and agrees to rounding.
    """
    if grids.device.type != "cpu" or grids.requires_grad:
        return F.interpolate(grids, size=size, mode="trilinear", align_corners=False)
    x, y, z = (_interpolation(n, side).to(grids.dtype) for n, side in zip(grids.shape[2:], size, strict=True))
    large = grids.new_empty(len(grids), 1, *size)
    for one, grid in zip(large[:, 0], grids[:, 0], strict=True):
        planes = (x @ grid.flatten(1)).unflatten(1, grid.shape[1:])  # (X, l_y, l_z)
        one.copy_(affine(y @ planes, z, None))  # (X, Y, Z)
    return large


@cache
def _interpolation(n: int, size: int) -> Tensor:
    """Weights (size, n) of the given points for the wanted ones along one axis."""
    return F.interpolate(torch.eye(n)[None], size=size, mode="linear", align_corners=False)[0].t().contiguous()


class ChannelNorm(nn.Module):
    """Layer norm over channels. Tokens carry channels last; `forward` takes them there."""

    def __init__(self, channels: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.eps = eps

    def forward(self, tokens: Tensor) -> Tensor:
        """Normalise (..., C)."""
        return F.layer_norm(tokens.to(self.weight.dtype), self.weight.shape, self.weight, self.bias, self.eps)


class TwoLayerMlp(nn.Module):
    """Linear, activation, linear."""

    def __init__(self, *, width: int, hidden: int, activation: nn.Module) -> None:
        super().__init__()
        self.lin1 = nn.Linear(width, hidden)
        self.lin2 = nn.Linear(hidden, width)
        self.activation = activation

    def forward(self, tokens: Tensor) -> Tensor:
        """Map (..., width) to (..., width)."""
        hidden: Tensor = self.activation(linear(self.lin1, tokens))  # (..., hidden)
        return linear(self.lin2, hidden)


class ReluMlp(nn.Module):
    """Linear layers with ReLU between them."""

    def __init__(self, *, n_in: int, hidden: int, n_out: int, depth: int) -> None:
        super().__init__()
        widths = [n_in, *[hidden] * (depth - 1), n_out]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))

    def forward(self, tokens: Tensor) -> Tensor:
        """Map (..., n_in) to (..., n_out)."""
        for layer in self.layers[:-1]:
            tokens = F.relu(linear(layer, tokens))
        return linear(self.layers[-1], tokens)


def linear(layer: nn.Module, tokens: Tensor, *, with_bias: bool = True) -> Tensor:
    """Apply a linear layer, or a convolution to the low-resolution voxels it sees, in the layer's own dtype.

    Args:
        layer: nn.Linear, or an nn.Conv3d without overlap.
        tokens: (..., in); for a convolution in = channels * kernel volume, as `cubes_to_tokens` gives it.
        with_bias: whether to add the layer's bias.

    Returns:
        (..., out).
    """
    assert isinstance(layer, nn.Linear | nn.Conv3d)
    if not _torch_casts(tokens.device):
        tokens = tokens.to(layer.weight.dtype)
    return affine(tokens, layer.weight.flatten(1), layer.bias if with_bias else None)


def _torch_casts(device: torch.device) -> bool:
    """Whether autocast brings both factors of a product to one dtype; torch does not know it of `meta`."""
    return device.type != "meta" and torch.is_autocast_enabled(device.type)


def octants(layer: nn.Module) -> tuple[Tensor, Tensor]:
    """A transposed convolution of size and stride 2 as a matrix (8 * out, in) and a bias (8 * out)."""
    assert isinstance(layer, nn.ConvTranspose3d)
    assert layer.bias is not None
    weight = layer.weight.flatten(2).transpose(1, 2).flatten(1).t()  # (8 * out, in)
    return weight, layer.bias.repeat(8)


def channels_last(grid: Tensor) -> Tensor:
    """(B, C, X, Y, Z) -> (B, X, Y, Z, C), a view."""
    return grid.permute(0, 2, 3, 4, 1)


def channels_first(grid: Tensor) -> Tensor:
    """(B, X, Y, Z, C) -> (B, C, X, Y, Z), a view."""
    return grid.permute(0, 4, 1, 2, 3)


def cubes_to_tokens(grid: Tensor, edge: int) -> Tensor:
    """Cut (B, C, X, Y, Z) into cubes: (B, X/e, Y/e, Z/e, C * e^3), in the order of a convolution's weight."""
    batch, channels, *sizes = grid.shape
    x, y, z = (size // edge for size in sizes)
    cubes = grid.reshape(batch, channels, x, edge, y, edge, z, edge)
    return cubes.permute(0, 2, 4, 6, 1, 3, 5, 7).reshape(batch, x, y, z, channels * edge**3)
