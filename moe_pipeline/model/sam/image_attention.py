"""Attention between a few vectors and the many tokens of an image, which are never projected.

On a CPU each prompt is computed on its own, forward and backward, so that its part of the image stays in the cache, and
the gradient of an image is one product instead of a sum of several. Elsewhere torch's own operations do the same.
"""

from typing import Any

import torch
from torch import Tensor

from moe_pipeline.model.cpu_kernels import multiply, own_code_suits, product


def attend_tokens(queries: Tensor, image: Tensor, positions: Tensor) -> Tensor:
    """What each query sees: softmax of queries times placed image, times image.

    Args:
        queries: (P, r, C).
        image: (B, N, C), B is 1 or P.
        positions: added to the image where queries meet it, without gradient, (1, N, C).

    Returns:
        (P, r, C).
    """
    if own_code_suits(queries, image):
        seen: Tensor = _Read.apply(queries, image, positions)  # type: ignore[no-untyped-call]
        return seen
    weights = multiply(queries, image + positions).softmax(-1, dtype=torch.float32).to(image.dtype)  # (P, r, N)
    return multiply(weights, image.transpose(1, 2))


def attend_image(
    keys: Tensor, constant: Tensor, values: Tensor, image: Tensor, positions: Tensor, heads: int
) -> Tensor:
    """The image with an answer added to each token: the mean of the values, weighed by a softmax over each head's keys.

    Args:
        keys: (P, heads * n, C), a head's keys together.
        constant: added to the logits of each key, (P, heads * n).
        values: one for each key, (P, heads * n, C).
        image: (B, N, C), B is 1 or P.
        positions: added to the image where keys meet it, without gradient, (1, N, C).
        heads: groups of keys.

    Returns:
        (P, N, C).
    """
    if own_code_suits(keys, image):
        written: Tensor = _Write.apply(keys, constant, values, image, positions, heads)  # type: ignore[no-untyped-call]
        return written
    logits = multiply(keys, image + positions) + constant[..., None]  # (P, heads * n, N)
    by_head = logits.reshape(len(logits), heads, -1, logits.shape[2])  # (P, heads, n, N)
    weights = by_head.softmax(2, dtype=torch.float32).flatten(1, 2)
    return image + multiply(weights.to(values.dtype).transpose(1, 2), values.transpose(1, 2))


class _Read(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, queries: Tensor, image: Tensor, positions: Tensor) -> Tensor:
        seen, weights = torch.empty_like(queries), queries.new_empty(*queries.shape[:2], image.shape[1])
        for i, (query, own) in enumerate(zip(queries, _each(image, len(queries)), strict=True)):
            weights[i] = product(query, own + positions[0]).softmax(1)  # (r, N)
            seen[i] = product(weights[i], own.t())  # (r, C)
        ctx.save_for_backward(queries, image, positions, weights)
        return seen

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        queries, image, positions, weights = ctx.saved_tensors
        of_queries, of_image = torch.empty_like(queries), _Gradient(image, ctx.needs_input_grad[1])
        for i, own in enumerate(_each(image, len(queries))):
            gradient = gradients[0][i]  # (r, C)
            of_logits = _through_softmax(product(gradient, own), weights[i], 1)  # (r, N)
            of_queries[i] = product(of_logits, (own + positions[0]).t())
            if of_image.wanted:  # through keys and values in one product
                left, right = torch.cat((weights[i], of_logits)), torch.cat((gradient, queries[i]))
                of_image.add(i, product(left.t(), right.t()))  # (N, C)
        return of_queries, of_image.total, None


class _Write(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, keys: Tensor, constant: Tensor, values: Tensor, image: Tensor, positions: Tensor, heads: int
    ) -> Tensor:
        written = image.new_empty(len(keys), *image.shape[1:])
        weights = keys.new_empty(*keys.shape[:2], image.shape[1])
        for i, own in enumerate(_each(image, len(keys))):
            logits = product(keys[i], own + positions[0]) + constant[i, :, None]  # (heads * n, N)
            weights[i] = logits.reshape(heads, -1, logits.shape[1]).softmax(1).flatten(0, 1)
            torch.add(own, product(weights[i].t(), values[i].t()), out=written[i])
        ctx.save_for_backward(keys, values, image, positions, weights)
        ctx.heads = heads
        return written

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        keys, values, image, positions, weights = ctx.saved_tensors
        of_keys, of_values = torch.empty_like(keys), torch.empty_like(values)
        of_constant, of_image = keys.new_empty(keys.shape[:2]), _Gradient(image, ctx.needs_input_grad[3])
        for i, own in enumerate(_each(image, len(keys))):
            gradient = gradients[0][i]  # (N, C)
            of_values[i] = product(weights[i], gradient.t())
            by_head = (ctx.heads, -1, len(own))
            of_weights = product(values[i], gradient).reshape(by_head)
            of_logits = _through_softmax(of_weights, weights[i].reshape(by_head), 1).flatten(0, 1)  # (heads * n, N)
            of_constant[i] = of_logits.sum(1)
            of_keys[i] = product(of_logits, (own + positions[0]).t())
            if of_image.wanted:
                of_image.add(i, product(of_logits.t(), keys[i].t()).add_(gradient))
        return of_keys, of_constant, of_values, of_image.total, None, None


class _Gradient:
    """Of an image that one or all prompts look at."""

    def __init__(self, image: Tensor, wanted: bool) -> None:
        self.wanted = wanted
        self.total = torch.empty_like(image) if wanted else None

    def add(self, index: int, part: Tensor) -> None:
        assert self.total is not None
        if len(self.total) > 1 or index == 0:
            self.total[index] = part
        else:
            self.total[0] += part


def _each(image: Tensor, n_prompts: int) -> list[Tensor]:
    """The image (N, C) of each prompt."""
    return list(image) if len(image) == n_prompts else [image[0]] * n_prompts


def _through_softmax(gradient: Tensor, weights: Tensor, axis: int) -> Tensor:
    through: Tensor = torch.ops.aten._softmax_backward_data(gradient, weights, axis, weights.dtype)
    return through
