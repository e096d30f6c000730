import torch
from torch import nn

from moe_pipeline.training.engine.ema import WeightAverage


def test_the_average_moves_by_hand_computed_steps() -> None:
    module = nn.Linear(1, 1, bias=False)
    nn.init.constant_(module.weight, 0.0)
    average = WeightAverage(module, decay=0.9)
    nn.init.constant_(module.weight, 11.0)
    average.update(module)  # decay min(0.9, 2/11): 0 + 9/11 * 11
    assert torch.allclose(average.tensors["weight"], torch.tensor([[9.0]]))


def test_applied_puts_the_own_weights_back_bit_for_bit() -> None:
    module = nn.Linear(3, 2)
    average = WeightAverage(module, decay=0.9)
    own = torch.randn_like(module.weight)
    with torch.no_grad():
        module.weight.copy_(own)
    with average.applied(module):
        assert not torch.equal(module.weight, own)
    assert torch.equal(module.weight, own)
