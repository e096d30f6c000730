import torch
from torch import nn

from moe_pipeline.training.engine.muon import Muon, kernels_of, orthogonalised


def test_all_directions_become_about_equally_long() -> None:
    generator = torch.Generator().manual_seed(0)
    for shape in [(6, 40), (40, 6), (8, 8)]:
        left, _, right = torch.linalg.svd(torch.randn(*shape, generator=generator), full_matrices=False)
        matrix = left @ torch.diag(torch.logspace(2, 0, len(right))) @ right
        turned = orthogonalised(matrix)
        assert turned.shape == shape
        lengths = torch.linalg.svdvals(turned)
        assert 0.6 < lengths.min() < lengths.max() < 1.25
        inner = left.T @ turned @ right.T  # its directions stay those of the matrix
        assert (inner - torch.diag(inner.diagonal())).abs().max() < 1e-3


def test_nothing_to_learn_moves_nothing() -> None:
    assert torch.equal(orthogonalised(torch.zeros(3, 5)), torch.zeros(3, 5))


def test_a_step_has_the_length_of_adamws() -> None:
    kernel = nn.Parameter(torch.zeros(8, 4, 3, 3, 3))
    kernel.grad = torch.randn(8, 4, 3, 3, 3, generator=torch.Generator().manual_seed(0))
    Muon([kernel], lr=0.1).step()
    rms = float(kernel.detach().square().mean().sqrt())
    assert 0.1 * 0.2 * 0.7 < rms < 0.1 * 0.2 * 1.25


def test_weights_decay_and_frozen_ones_stay() -> None:
    kernel, still = nn.Parameter(torch.ones(2, 2, 1, 1, 1)), nn.Parameter(torch.ones(2, 2, 1, 1, 1))
    kernel.grad = torch.zeros_like(kernel)
    Muon([kernel, still], lr=0.1, weight_decay=0.5).step()
    assert torch.equal(kernel.detach(), torch.full((2, 2, 1, 1, 1), 0.95))
    assert torch.equal(still.detach(), torch.ones(2, 2, 1, 1, 1))


def test_only_trainable_convolutions_are_its_business() -> None:
    network = nn.ModuleList([nn.Conv3d(1, 2, 3), nn.ConvTranspose3d(2, 1, 2), nn.Linear(2, 2), nn.Conv3d(2, 2, 1)])
    network[3].requires_grad_(False)
    assert [tuple(kernel.shape) for kernel in kernels_of(network)] == [(2, 1, 3, 3, 3), (2, 1, 2, 2, 2)]
