"""The convolutional building blocks."""

import torch

from moe_pipeline.model.residual import LeanBlock


def test_a_channel_that_is_silent_everywhere_still_learns() -> None:
    torch.manual_seed(0)
    block = LeanBlock(16)
    assert block.conv1.bias is not None
    with torch.no_grad():
        block.conv1.bias.fill_(-100)
    grid = torch.randn(1, 16, 4, 4, 4)
    assert (block.conv1(block.norm(grid)) < 0).all()
    block(grid).square().sum().backward()
    for parameter in block.parameters():
        assert parameter.grad is not None
        assert (parameter.grad.flatten(1) if parameter.ndim > 1 else parameter.grad[:, None]).abs().sum(1).all()
