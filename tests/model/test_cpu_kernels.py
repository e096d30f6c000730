from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from moe_pipeline.model import cpu_kernels
from moe_pipeline.model.cpu_kernels import affine

own_product = pytest.mark.skipif(not cpu_kernels._onednn_is_faster(), reason="this machine uses torch's own product")


class Products(TorchDispatchMode):
    """Notes the matrices that oneDNN is given; for other strides it is a thousand times slower."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Tensor] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if "_linear_pointwise" in str(func):
            self.seen += args[:2]
        return func(*args, **(kwargs or {}))


def gradients(function: object, tokens: Tensor, weight: Tensor, bias: Tensor | None) -> list[Tensor]:
    leaves = [part.clone().requires_grad_() for part in (tokens, weight, bias) if part is not None]
    result = function(*leaves, *([None] if bias is None else []))  # type: ignore[operator]
    result.square().mean().backward()
    return [result.detach()] + [leaf.grad for leaf in leaves if leaf.grad is not None]


@own_product
@pytest.mark.parametrize("with_bias", [True, False])
@pytest.mark.parametrize(("shape", "n_out"), [((3, 70, 64), 48), ((512, 24), 96), ((7, 384), 384), ((2, 3), 5)])
def test_value_and_gradients_are_those_of_linear(shape: tuple[int, ...], n_out: int, with_bias: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randn(shape, generator=generator)
    weight = torch.randn(n_out, shape[-1], generator=generator) / shape[-1] ** 0.5
    bias = torch.randn(n_out, generator=generator) if with_bias else None
    for found, expected in zip(
        gradients(affine, tokens, weight, bias), gradients(F.linear, tokens, weight, bias), strict=True
    ):
        assert found.shape == expected.shape
        assert torch.allclose(found, expected, atol=1e-5, rtol=1e-5)


@torch.no_grad()
@own_product
def test_strided_views_are_understood_and_onednn_never_sees_them() -> None:
    wide = torch.randn(256, 3, 512)
    tokens, weight = wide[:, 1], torch.randn(256, 3, 512)[:, 2]  # rows that do not follow each other in memory
    with Products() as products:
        product = affine(tokens, weight, None)
    assert products.seen
    assert all(matrix.is_contiguous() or matrix.t().is_contiguous() for matrix in products.seen)
    assert torch.allclose(product, F.linear(tokens, weight), atol=1e-3)
    assert torch.allclose(affine(wide.transpose(0, 1), weight.t().contiguous().t(), None)[1], product, atol=1e-3)


@own_product
def test_frozen_weights_get_no_gradient() -> None:
    tokens, weight = torch.randn(512, 64, requires_grad=True), torch.randn(64, 64)
    affine(tokens, weight, None).sum().backward()
    assert tokens.grad is not None
    assert weight.grad is None


@own_product
def test_empty_input_and_autocast_keep_torchs_behaviour() -> None:
    assert affine(torch.zeros(0, 8), torch.zeros(5, 8), None).shape == (0, 5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert affine(torch.zeros(512, 64), torch.zeros(64, 64), None).dtype == torch.bfloat16


@pytest.mark.skipif(not cpu_kernels._onednn_is_there(), reason="torch was built without oneDNN")
@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (3, 2), (1, 1), (5, 1), ((3, 1, 5), 1)])
@pytest.mark.parametrize("length", [17, 18])
def test_convolution_and_its_gradients_are_those_of_the_layer(
    batch: int, kernel: int | tuple[int, int, int], stride: int, length: int
) -> None:
    torch.manual_seed(0)
    x, y, z = kernel if isinstance(kernel, tuple) else (kernel,) * 3
    padding = (x // 2, y // 2, z // 2)
    layer = torch.nn.Conv3d(12, 20, kernel, stride=stride, padding=padding, bias=stride == 1)
    grid = torch.randn(batch, 12, length, 16, 14, requires_grad=True)  # large enough for oneDNN
    leaves = (grid, *layer.parameters())
    assert grid.numel() * 20 >= cpu_kernels._SMALL
    expected = torch.autograd.grad(layer(grid).square().mean(), leaves)
    found = torch.autograd.grad(cpu_kernels.convolve(layer, grid).square().mean(), leaves)
    assert torch.allclose(cpu_kernels.convolve(layer, grid), layer(grid), atol=1e-5)
    for one, other in zip(found, expected, strict=True):
        assert torch.allclose(one, other, atol=1e-5)
