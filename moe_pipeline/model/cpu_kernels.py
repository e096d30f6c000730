"""Linear maps and convolutions in fp32 on the CPU, by the faster of torch's two libraries.

torch multiplies fp32 matrices with MKL, which leaves half of an AMD processor unused: it takes AVX2 there although the
processor has AVX-512. oneDNN, which torch uses for bf16 and for convolutions, takes it everywhere, and is about twice
as fast, forward and backward. Results agree to rounding.
"""

from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_NARROW = 32
_ONES = [1, 1, 1]
_SMALL = 1 << 19  # multiplications; below, the call itself costs more than the product


def affine(tokens: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """As `F.linear`: tokens (..., in), weight (out, in), bias (out) or None -> (..., out)."""
    if not _suits(tokens, weight):
        return F.linear(tokens, weight, bias)
    rows = tokens.reshape(-1, tokens.shape[-1])  # (n, in)
    if torch.is_grad_enabled():
        product: Tensor = _Affine.apply(rows, weight, bias)  # type: ignore[no-untyped-call]
    else:
        product = _product(rows, weight, bias)
    return product.reshape(*tokens.shape[:-1], -1)


def multiply(left: Tensor, right: Tensor) -> Tensor:
    """A matrix product per prompt: left (P, n, c) times the transpose of right (P | 1, m, c) -> (P, n, m)."""
    return affine(left, right[0], None) if len(right) == 1 else left @ right.transpose(1, 2)


def product(rows: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """As `F.linear` of matrices, for code that makes its own gradients: rows (n, in), weight (out, in) -> (n, out)."""
    if _large(rows, weight) and _onednn_is_faster():
        return _product(rows, weight, bias)
    return F.linear(rows, weight, bias)


def own_code_suits(*tensors: Tensor) -> bool:
    """Whether to take our own code for the CPU, with gradients made by hand, instead of torch's operations."""
    if torch.compiler.is_compiling() or torch.is_autocast_enabled("cpu"):
        return False
    return all(tensor.device.type == "cpu" and tensor.dtype == torch.float32 for tensor in tensors)


def convolve(layer: nn.Module, grid: Tensor) -> Tensor:
    """As `layer(grid)` of an nn.Conv3d: (B, in, X, Y, Z) -> (B, out, X', Y', Z').

    For a single small grid torch chooses a convolution that is up to ten times slower than oneDNN's, and gradients
    that are up to twelve times slower.
    """
    assert isinstance(layer, nn.Conv3d)
    if not (_large(grid, layer.weight) and _onednn_is_there() and own_code_suits(grid, layer.weight)):
        convolved: Tensor = layer(grid)
        return convolved
    assert layer.padding_mode == "zeros"
    padding = [int(edge) for edge in layer.padding]
    if torch.is_grad_enabled() and _keeps_the_grid(layer, padding) and grid.shape[2] % 2 == 0:
        kept: Tensor = _Convolution.apply(grid, layer.weight, layer.bias, padding)  # type: ignore[no-untyped-call]
        return kept
    return torch.mkldnn_convolution(grid, layer.weight, layer.bias, padding, layer.stride, layer.dilation, layer.groups)


def _keeps_the_grid(layer: nn.Conv3d, padding: list[int]) -> bool:
    plain = (*layer.stride, *layer.dilation, layer.groups) == (1,) * 7
    return plain and list(layer.kernel_size) == [2 * edge + 1 for edge in padding]


class _Convolution(torch.autograd.Function):
    """A convolution of stride 1 that keeps the grid, its gradients taken such that oneDNN computes them."""

    @staticmethod
    def forward(ctx: Any, grid: Tensor, weight: Tensor, bias: Tensor | None, padding: list[int]) -> Tensor:
        ctx.save_for_backward(grid, weight)
        ctx.padding = padding
        return torch.mkldnn_convolution(grid, weight, bias, padding, _ONES, _ONES, 1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None]:
        (gradient,) = gradients  # (B, out, X, Y, Z)
        grid, weight = ctx.saved_tensors
        needs_grid, needs_weight, needs_bias, _ = ctx.needs_input_grad
        of_grid = None
        if needs_grid:
            turned = weight.flip(2, 3, 4).transpose(0, 1).contiguous()
            of_grid = torch.mkldnn_convolution(gradient.contiguous(), turned, None, ctx.padding, _ONES, _ONES, 1)
        return (
            of_grid,
            _kernel_gradient(gradient, grid, weight, ctx.padding) if needs_weight else None,
            gradient.sum((0, 2, 3, 4)) if needs_bias else None,
            None,
        )


def _kernel_gradient(gradient: Tensor, grid: Tensor, weight: Tensor, padding: list[int]) -> Tensor:
    """A grid alone is taken as two halves, with what they see of each other: torch gives oneDNN only larger batches."""
    if len(grid) == 1:
        middle, rim = grid.shape[2] // 2, padding[0]
        padded = F.pad(grid, (0, 0, 0, 0, rim, rim))
        grid = torch.cat([padded[:, :, : middle + 2 * rim], padded[:, :, middle:]])
        gradient, padding = torch.cat([gradient[:, :, :middle], gradient[:, :, middle:]]), [0, *padding[1:]]
    kernel: Tensor = torch.ops.aten.convolution_backward(
        gradient, grid, weight, None, _ONES, padding, _ONES, False, [0, 0, 0], 1, [False, True, False]
    )[1]
    return kernel


class _Affine(torch.autograd.Function):
    """The product with its three gradients, which are products too."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(rows, weight)
        return _product(rows, weight, bias)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        (gradient,) = gradients  # (n, out)
        rows, weight = ctx.saved_tensors
        needs_rows, needs_weight, needs_bias = ctx.needs_input_grad
        return (
            _product(gradient, weight.t(), None) if needs_rows else None,
            _weight_gradient(gradient, rows) if needs_weight else None,
            gradient.sum(0) if needs_bias else None,
        )


def _weight_gradient(gradient: Tensor, rows: Tensor) -> Tensor:
    """From gradient (n, out) and rows (n, in): (out, in). The smaller edge first is faster; MKL if both are small."""
    if max(gradient.shape[1], rows.shape[1]) <= _NARROW:
        return gradient.t() @ rows if gradient.shape[1] <= rows.shape[1] else (rows.t() @ gradient).t()
    if gradient.shape[1] <= rows.shape[1]:
        return _product(gradient.t(), rows.t(), None)
    return _product(rows.t(), gradient.t(), None).t()


def _product(rows: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    product: Tensor = torch.ops.mkldnn._linear_pointwise(_dense(rows), _dense(weight), bias, "none", [], "")
    return product


def _dense(matrix: Tensor) -> Tensor:
    """For other strides than these two, oneDNN falls back to code that is a thousand times slower."""
    return matrix if matrix.is_contiguous() or matrix.t().is_contiguous() else matrix.contiguous()


def _suits(tokens: Tensor, weight: Tensor) -> bool:
    return _large(tokens, weight) and _onednn_is_faster() and own_code_suits(tokens, weight)


def _large(tokens: Tensor, weight: Tensor) -> bool:
    return tokens.numel() * weight.shape[0] >= _SMALL


@cache
def _onednn_is_faster() -> bool:
    wide = torch.backends.cpu.get_cpu_capability().startswith("AVX512")
    return wide and _onednn_is_there() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


@cache
def _onednn_is_there() -> bool:
    return bool(torch.backends.mkldnn.is_available())  # type: ignore[no-untyped-call]
