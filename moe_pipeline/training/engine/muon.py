"""Muon for the kernels of convolutions: each step turns a kernel as a whole instead of each of its numbers alone.

The gradient of a kernel is mostly a few directions that all examples share; AdamW, which looks at single numbers, walks
along those. Muon (Jordan et al. 2024) gives all directions of the averaged gradient the same length. Where every step
costs as much as here, that pays: see docs/experiments/2026-11-30-experts-and-routing.md.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from moe_pipeline.model.foundation import Foundation

_POLYNOMIAL = (3.4445, -4.7750, 2.0315)  # Jordan's: five steps take singular values from 0.001 to 1 into 0.7 to 1.2
_STEPS = 5
_MOMENTUM = 0.95
_KERNEL_RATE = 3.0  # experts learn about as well at 2 and 4, and worse at 1
_ADAMW_RMS = 0.2  # of an update: as large as AdamW's usually is (Liu et al. 2025), so learning rates compare


def kernel_rate(foundation: Foundation) -> float:
    """Muon's learning rate for a foundation's decoder, in those of AdamW beside it; 0 for AdamW alone."""
    return _KERNEL_RATE if foundation.learns_kernels else 0.0


class Muon(torch.optim.Optimizer):
    """Nesterov momentum, its directions made equally long, with decoupled weight decay.

    Args:
        kernels: each seen as the matrix of its first axis against all others.
        lr: learning rate.
        weight_decay: share of each weight taken away per step, in learning rates.
    """

    def __init__(self, kernels: Iterable[Tensor], lr: float, weight_decay: float = 0.0) -> None:
        super().__init__(kernels, {"lr": lr, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Move every kernel that has a gradient; closures are not supported."""
        assert closure is None
        for group in self.param_groups:
            for kernel in group["params"]:
                if kernel.grad is None:
                    continue
                state = self.state[kernel]
                if not state:
                    state["momentum"] = torch.zeros_like(kernel)
                momentum = state["momentum"]
                momentum.lerp_(kernel.grad, 1 - _MOMENTUM)
                direction = kernel.grad.lerp(momentum, _MOMENTUM).flatten(1)  # (out, in * positions)
                length = _ADAMW_RMS * max(direction.shape) ** 0.5
                kernel.mul_(1 - group["lr"] * group["weight_decay"])
                kernel.add_(orthogonalised(direction).view_as(kernel), alpha=-group["lr"] * length)


def orthogonalised(matrix: Tensor) -> Tensor:
    """The matrix with all singular values near 1 (0.7 to 1.2), but those under about 0.001 of its norm: (m, n).

    Newton-Schulz steps, taken on the smaller of its two Gram matrices: the factors of all steps are polynomials of that
    one, so only the first and the last product see the long side.
    """
    a, b, c = _POLYNOMIAL
    short = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T  # (s, l)
    short = short / short.norm().clamp(min=1e-12)
    gram = short @ short.T  # (s, s)
    one = torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
    factor = one
    for _ in range(_STEPS):
        step = a * one + b * gram + c * gram @ gram
        factor, gram = step @ factor, step @ gram @ step
    turned: Tensor = factor @ short
    return turned if matrix.shape[0] <= matrix.shape[1] else turned.T


def kernels_of(module: nn.Module) -> list[Tensor]:
    """The trainable weights of all 3D convolutions, transposed ones included."""
    convolutions = (part for part in module.modules() if isinstance(part, nn.Conv3d | nn.ConvTranspose3d))
    return [part.weight for part in convolutions if part.weight.requires_grad]
