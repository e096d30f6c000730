"""Drawing dead channels anew."""

import torch
from torch import nn

from moe_pipeline.model.nano.residual import LeanBlock
from moe_pipeline.training.engine.dead_channels import reinitialise_dead_channels


def test_dead_channels_answer_again_and_the_others_stay() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(LeanBlock(16), LeanBlock(16))
    grid = torch.randn(2, 16, 6, 6, 6)
    block = network[1]
    assert isinstance(block, LeanBlock)
    assert block.conv1.bias is not None
    with torch.no_grad():
        block.conv1.bias[3:8] = -5
        before = network(grid)
    others = [k for k in range(16) if not 3 <= k < 8]
    kept = block.conv1.weight[others].clone(), block.conv2.weight[:, others].clone()

    assert reinitialise_dead_channels(network, lambda: network(grid), seed=1) == {"0": 0, "1": 5}

    assert torch.equal(block.conv1.weight[others], kept[0])
    assert torch.equal(block.conv2.weight[:, others], kept[1])
    assert not block.conv2.weight[:, 3:8].any()
    with torch.no_grad():
        share = (block.conv1(block.norm(network[0](grid))) > 0).float().mean((0, 2, 3, 4))
        assert (share[3:8] > 0.2).all()
        assert (network(grid) - before).abs().max() < 0.05 * before.abs().max()  # the little that passed below zero
    assert reinitialise_dead_channels(network, lambda: network(grid), seed=1) == {"0": 0, "1": 0}
