import pytest
import torch

from moe_pipeline.model.moe.click_proposer import (
    ClickProposer,
    ClickProposerConfig,
    best_place,
    heat_maps,
    neighbourhood,
)

CONFIG = ClickProposerConfig(width=6, n_classes=3, hidden=8, depth=2, upscaling=2)


@pytest.fixture
def click_proposer() -> ClickProposer:
    torch.manual_seed(0)
    return ClickProposer(CONFIG)


def test_every_class_has_a_distribution_over_voxels_and_absence(click_proposer: ClickProposer) -> None:
    embedding = torch.randn(2, 6, 4, 5, 3)
    log_places = click_proposer(embedding)
    assert log_places.shape == (2, 3, 8 * 10 * 6 + 1)
    assert torch.allclose(log_places.exp().sum(2), torch.ones(2, 3), atol=1e-5)
    heat, absent = heat_maps(click_proposer, embedding)
    assert heat.shape == (2, 3, 8, 10, 6)
    assert torch.allclose(heat.sum((2, 3, 4)) + absent, torch.ones(2, 3), atol=1e-5)


def test_the_voxels_of_a_token_lie_where_the_token_is() -> None:
    torch.manual_seed(0)
    alone = ClickProposer(ClickProposerConfig(width=6, n_classes=2, hidden=8, depth=0, upscaling=2))
    plain = torch.randn(1, 6, 1, 1, 1).expand(-1, -1, 4, 3, 5).clone()
    other = plain.clone()
    other[0, :, 1, 2, 3] = torch.randn(6)
    change = (heat_maps(alone, other)[0].log() - heat_maps(alone, plain)[0].log())[0, 0]  # (8, 6, 10)
    moved = (change - change[0, 0, 0]).abs() > 1e-4
    expected = torch.zeros(8, 6, 10, dtype=torch.bool)
    expected[2:4, 4:6, 6:8] = True
    assert torch.equal(moved, expected)


def test_a_batch_answers_like_its_parts(click_proposer: ClickProposer) -> None:
    both = torch.randn(2, 6, 4, 4, 4)
    assert torch.allclose(click_proposer(both)[1:], click_proposer(both[1:]), atol=1e-5)


def test_features_behind_the_embedding_do_not_matter(click_proposer: ClickProposer) -> None:
    embedding = torch.randn(1, 6, 4, 4, 4)
    assert torch.equal(
        click_proposer(torch.cat((embedding, torch.randn(1, 64, 4, 4, 4)), dim=1)), click_proposer(embedding)
    )


def test_the_best_place_is_the_centre_of_the_heat() -> None:
    heat = torch.zeros(3, 5, 6, 7)
    heat[0, 1, 2, 3] = 1.0
    heat[1, 1, 2, 3] = heat[1, 1, 3, 3] = 0.5
    heat[2, 4, 5, 6] = 1.0  # a corner
    assert best_place(heat).tolist() == [[1, 2, 3], [1, 2.5, 3], [4, 5, 6]]


def test_a_warm_region_beats_a_single_hot_voxel() -> None:
    heat = torch.zeros(1, 9, 9, 9)
    heat[0, 1, 1, 1] = 0.3
    heat[0, 5:8, 5:8, 5:8] = 0.7 / 27
    assert torch.allclose(best_place(heat), torch.tensor([[6.0, 6.0, 6.0]]), atol=1e-5)
    assert neighbourhood(heat)[0, 6, 6, 6] == pytest.approx(0.7)


def test_no_heat_at_all_is_a_place_too() -> None:
    assert torch.isfinite(best_place(torch.zeros(1, 3, 3, 3))).all()
