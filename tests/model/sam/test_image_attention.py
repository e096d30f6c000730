"""Our own gradients against torch's, which the same functions take in double precision."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from moe_pipeline.model.sam.image_attention import attend_image, attend_tokens

N_PROMPTS, N_TOKENS, WIDTH, HEADS, N_KEYS = 3, 40, 24, 2, 5
ROWS = HEADS * N_KEYS


def draw(*shape: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64)


def values_and_gradients(function: Callable[..., Tensor], leaves: list[Tensor], dtype: torch.dtype) -> list[Tensor]:
    leaves = [leaf.to(dtype).requires_grad_() for leaf in leaves]
    result = function(*leaves)
    torch.manual_seed(1)
    gradients = torch.autograd.grad(result, leaves, torch.randn(result.shape, dtype=torch.float64).to(dtype))
    return [result.detach(), *gradients]


def agree(function: Callable[..., Tensor], leaves: list[Tensor]) -> None:
    found = values_and_gradients(function, leaves, torch.float32)
    expected = values_and_gradients(function, leaves, torch.float64)
    for one, other in zip(found, expected, strict=True):
        assert one.shape == other.shape
        assert torch.allclose(one.double(), other, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("n_images", [1, N_PROMPTS])
def test_reading_and_its_gradients_are_torchs(n_images: int) -> None:
    torch.manual_seed(0)
    positions = draw(1, N_TOKENS, WIDTH)
    agree(
        lambda queries, image: attend_tokens(queries, image, positions.to(image.dtype)),
        [draw(N_PROMPTS, ROWS, WIDTH) / 3, draw(n_images, N_TOKENS, WIDTH)],
    )


@pytest.mark.parametrize("n_images", [1, N_PROMPTS])
def test_writing_and_its_gradients_are_torchs(n_images: int) -> None:
    torch.manual_seed(0)
    positions = draw(1, N_TOKENS, WIDTH)
    agree(
        lambda keys, constant, values, image: attend_image(
            keys, constant, values, image, positions.to(image.dtype), HEADS
        ),
        [
            draw(N_PROMPTS, ROWS, WIDTH) / 3,
            draw(N_PROMPTS, ROWS),
            draw(N_PROMPTS, ROWS, WIDTH),
            draw(n_images, N_TOKENS, WIDTH),
        ],
    )


def test_a_frozen_image_gets_no_gradient() -> None:
    queries, image = torch.randn(2, ROWS, WIDTH, requires_grad=True), torch.randn(2, N_TOKENS, WIDTH)
    attend_tokens(queries, image, torch.zeros(1, N_TOKENS, WIDTH)).sum().backward()
    assert queries.grad is not None
    assert image.grad is None


def test_each_prompt_gets_the_same_bits_in_any_company() -> None:
    queries, image = torch.randn(4, ROWS, WIDTH), torch.randn(4, N_TOKENS, WIDTH)
    positions = torch.randn(1, N_TOKENS, WIDTH)
    together = attend_tokens(queries, image, positions)
    alone = [attend_tokens(queries[i : i + 1], image[i : i + 1], positions) for i in range(4)]
    assert torch.equal(together, torch.cat(alone))
