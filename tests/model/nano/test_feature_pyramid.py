import torch

from moe_pipeline.model.nano.feature_pyramid import Pyramid


def test_voxels_know_their_own_place_and_what_lies_far_away() -> None:
    torch.manual_seed(0)
    pyramid = Pyramid(width=24, middle=16, fine=8, n_out=16)
    tokens, middle = torch.randn(2, 24, 2, 2, 2, requires_grad=True), torch.randn(2, 16, 4, 4, 4, requires_grad=True)
    fine = torch.randn(2, 8, 8, 8, 8, requires_grad=True)
    voxels = pyramid(tokens, middle, fine)
    assert voxels.shape == (2, 16, 8, 8, 8)
    groups = voxels.reshape(2, 2, -1)  # groups of eight channels
    torch.testing.assert_close(groups.mean(2), torch.zeros(2, 2), atol=1e-5, rtol=0)
    torch.testing.assert_close(groups.std(2, correction=0), torch.ones(2, 2), atol=1e-3, rtol=0)
    voxels[0, :, 0, 0, 0].sum().backward()
    assert fine.grad is not None
    assert middle.grad is not None
    assert tokens.grad is not None
    assert fine.grad[0, :, 0, 0, 0].abs().sum() > 0
    assert middle.grad[0, :, 0, 0, 0].abs().sum() > 0
    assert tokens.grad[0, :, 1, 1, 1].abs().sum() > 0
    assert tokens.grad[1].abs().sum() == 0
