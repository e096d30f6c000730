"""Hidden channels that hardly ever answer: they cost as much as the others and learn next to nothing."""

import logging
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from moe_pipeline.model.cpu_kernels import convolve
from moe_pipeline.model.nano.residual import LeanBlock

_log = logging.getLogger(__name__)

_SELDOM = 0.005
"""Of the low-resolution voxels: a channel above zero in fewer is dead."""
_GAIN = 0.7  # of new kernels, in those that keep the variance: living ones are smaller than when they were drawn


@torch.no_grad()
def reinitialise_dead_channels(network: nn.Module, look: Callable[[], object], seed: int) -> dict[str, int]:
    """Draw dead channels of all `LeanBlock`s anew; what the network answers hardly changes.

    What a block makes of a channel drawn anew starts at zero, and is learnt first.

    Args:
        network: changed in place.
        look: shows the network what it usually sees.
        seed: of the new kernels.

    Returns:
        How many channels of each block were dead, by the block's name.
    """
    blocks = {name: part for name, part in network.named_modules() if isinstance(part, LeanBlock)}
    if not blocks:
        return {}
    shares: dict[str, list[Tensor]] = {name: [] for name in blocks}
    hooks = [block.register_forward_pre_hook(partial(_note, shares[name])) for name, block in blocks.items()]
    try:
        look()
    finally:
        for hook in hooks:
            hook.remove()
    generator = torch.Generator().manual_seed(seed)
    drawn = {name: _draw_anew(block, torch.stack(shares[name]).mean(0), generator) for name, block in blocks.items()}
    _log.info("hidden channels drawn anew, since they hardly ever answered: %s", drawn)
    return drawn


def _note(shares: list[Tensor], block: nn.Module, inputs: tuple[Tensor]) -> None:
    """Remember in which share of the low-resolution voxels each hidden channel is above zero, (C,)."""
    assert isinstance(block, LeanBlock)
    hidden = convolve(block.conv1, block.norm(inputs[0]))  # (B, C, X, Y, Z)
    shares.append((hidden > 0).float().mean((0, 2, 3, 4)))


def _draw_anew(block: LeanBlock, share: Tensor, generator: torch.Generator) -> int:
    dead = share < _SELDOM  # (C,)
    kernels = block.conv1.weight
    fresh = torch.randn(kernels.shape, generator=generator).to(kernels) * _GAIN * (2 / kernels[0].numel()) ** 0.5
    kernels[dead] = fresh[dead]
    assert block.conv1.bias is not None
    block.conv1.bias[dead] = 0
    block.conv2.weight[:, dead] = 0
    return int(dead.sum())
