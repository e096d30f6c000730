import pytest
import torch
from torch import nn

from moe_pipeline.model.sam.foundation import SamFoundation


@torch.no_grad()
def test_padding_point_is_where_no_point_is(small: SamFoundation) -> None:
    encoder = small.prompt_encoder
    point = (torch.tensor([[[3.0, 4.0, 5.0]]]), torch.tensor([[-1]]))
    sparse, _ = encoder(points=point)
    expected = encoder.not_a_point_embed.weight.expand(2, -1)
    assert torch.equal(sparse[0], expected)


@torch.no_grad()
def test_a_point_at_a_token_has_that_tokens_position(small: SamFoundation) -> None:
    encoder = small.prompt_encoder
    encoder.swap_dense_axes = False
    centre = torch.tensor([[[8 * 2 + 3.5, 8 * 5 + 3.5, 8 * 7 + 3.5]]])  # voxel coordinates of token (2, 5, 7)
    sparse, _ = encoder(points=(centre, torch.tensor([[1]])))
    foreground_embedding = encoder.point_embeddings[1]
    assert isinstance(foreground_embedding, nn.Embedding)
    foreground = foreground_embedding.weight[0]
    assert torch.allclose(sparse[0, 0] - foreground, encoder.dense_positions()[0, :, 2, 5, 7], atol=1e-5)


@torch.no_grad()
def test_swapped_axes_are_the_first_two(small: SamFoundation) -> None:
    swapped = small.prompt_encoder.dense_positions()
    small.prompt_encoder.swap_dense_axes = False
    assert torch.equal(small.prompt_encoder.dense_positions(), swapped.transpose(2, 3))


@torch.no_grad()
def test_prompts_are_independent(small: SamFoundation) -> None:
    generator = torch.Generator().manual_seed(0)
    coordinates, labels = 64 * torch.rand(4, 3, 3, generator=generator), torch.tensor([[1, 0, -1]]).expand(4, -1)
    mask = torch.randn(4, 1, 32, 32, 32, generator=generator)
    together = small.prompt_encoder(points=(coordinates, labels), mask=mask)
    for i in range(4):
        alone = small.prompt_encoder(points=(coordinates[i : i + 1], labels[i : i + 1]), mask=mask[i : i + 1])
        for part, single in zip(together, alone, strict=True):
            assert torch.allclose(part[i : i + 1], single, atol=1e-5)


@torch.no_grad()
def test_without_points_there_are_no_tokens(small: SamFoundation) -> None:
    sparse, dense = small.prompt_encoder(mask=torch.zeros(2, 1, 32, 32, 32))
    assert sparse.shape == (2, 0, 48)
    assert dense.shape == (2, 48, 8, 8, 8)


def test_wrong_shapes_are_refused(small: SamFoundation) -> None:
    encoder = small.prompt_encoder
    with pytest.raises(ValueError, match=r"coordinates \(P, n, 3\) and labels \(P, n\), got \(1, 2, 3\) and \(1, 3\)"):
        encoder(points=(torch.zeros(1, 2, 3), torch.zeros(1, 3, dtype=torch.long)))
    with pytest.raises(ValueError, match=r"mask must be \(P, 1, 32, 32, 32\), got \(1, 1, 16, 16, 16\)"):
        encoder(mask=torch.zeros(1, 1, 16, 16, 16))
    with pytest.raises(ValueError, match=r"different numbers of prompts: \[1, 2\]"):
        encoder(points=(torch.zeros(1, 1, 3), torch.zeros(1, 1, dtype=torch.long)), mask=torch.zeros(2, 1, 32, 32, 32))
