"""An exponential moving average of weights: what is validated and kept."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class WeightAverage:
    """Running mean of a module's trainable parameters.

    Early on the decay is min(decay, (1 + n) / (10 + n)) after n updates, so that the start is soon forgotten.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self.updates = 0
        self.tensors = {name: p.detach().clone() for name, p in module.named_parameters() if p.requires_grad}

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        """Move towards the module's present weights."""
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        present = dict(module.named_parameters())
        torch._foreach_lerp_(list(self.tensors.values()), [present[name] for name in self.tensors], 1 - decay)

    @contextmanager
    def applied(self, module: nn.Module) -> Iterator[None]:
        """Within the block the module has the averaged weights; afterwards its own again, bit for bit."""
        own = {name: p.detach().clone() for name, p in module.named_parameters() if name in self.tensors}
        copy_into(module, self.tensors)
        try:
            yield
        finally:
            copy_into(module, own)


@torch.no_grad()
def copy_into(module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Copy tensors into the parameters of the same names; parameters without one stay."""
    for name, parameter in module.named_parameters():
        if name in tensors:
            parameter.copy_(tensors[name])
