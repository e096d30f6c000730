import copy

import pytest
import torch
from torch import Tensor

from moe_pipeline.model.sam.foundation import SamFoundation
from moe_pipeline.training.interactive.simulated_clicks import (
    ClickState,
    InteractionStep,
    click_sequence,
    draw_click,
    full_size,
    next_click,
)


def corner_and_bar() -> Tensor:
    region = torch.zeros(2, 1, 4, 4, 4, dtype=torch.bool)
    region[0, 0, 3, 1, 2] = True
    region[1, 0, 2, 0, :] = True
    return region


def test_a_click_falls_into_its_region_in_tensor_axis_order() -> None:
    generator = torch.Generator().manual_seed(0)
    seen = set()
    for _ in range(50):
        clicks = draw_click(corner_and_bar(), generator)
        assert clicks[0].tolist() == [3, 1, 2]
        assert clicks[1, :2].tolist() == [2, 0]
        seen.add(int(clicks[1, 2]))
    assert seen == {0, 1, 2, 3}


def test_a_click_is_the_voxel_of_its_rank() -> None:
    region = torch.rand(6, 1, 5, 5, 5, generator=torch.Generator().manual_seed(0)) < 0.3
    region[4] = False  # anywhere
    for seed in range(20):
        clicks = draw_click(region, torch.Generator().manual_seed(seed))
        share = torch.rand(6, 1, generator=torch.Generator().manual_seed(seed))
        for mask, click, part in zip(region[:, 0], clicks, share, strict=True):
            voxels = (mask if mask.any() else ~mask).nonzero()
            assert torch.equal(click, voxels[int(part * len(voxels))])


def test_an_empty_region_means_anywhere() -> None:
    clicks = draw_click(torch.zeros(3, 1, 4, 4, 4, dtype=torch.bool), torch.Generator().manual_seed(0))
    assert clicks.shape == (3, 3)
    assert clicks.min() >= 0
    assert clicks.max() <= 3


def test_labels_tell_missed_from_invented() -> None:
    target = corner_and_bar()
    mask = torch.zeros_like(target)
    mask[1] = True  # the second answer covers everything: only invented voxels are wrong
    for seed in range(10):
        coordinates, labels = next_click(mask, target, torch.Generator().manual_seed(seed))
        assert labels[:, 0].tolist() == [1, 0]
        x, y, z = coordinates[1, 0].long().tolist()
        assert not target[1, 0, x, y, z]


def test_the_click_sequence_collects_clicks_and_feeds_back_detached_logits(tiny_foundation: SamFoundation) -> None:
    foundation = tiny_foundation
    embedding = foundation.image_encoder(torch.randn(1, 1, 16, 16, 16, generator=torch.Generator().manual_seed(1)))
    target = torch.zeros(2, 1, 16, 16, 16, dtype=torch.bool)
    target[:, :, 4:9, 4:9, 4:9] = True
    answers = list(
        click_sequence(foundation, foundation.decoder, embedding, target, 3, torch.Generator().manual_seed(2))
    )
    assert [tuple(a.coordinates.shape) for a in answers] == [(2, 1, 3), (2, 2, 3), (2, 3, 3)]
    assert torch.equal(answers[2].coordinates[:, :2], answers[1].coordinates)
    last = answers[-1]
    sparse, dense = foundation.prompt_encoder(
        points=(last.coordinates, last.labels), mask=answers[1].logits.detach().float()
    )
    expected, _ = foundation.mask_decoder(embedding, sparse, dense)
    assert torch.allclose(expected, last.logits, atol=1e-5)
    assert full_size(last.logits, (16,) * 3).shape == (2, 1, 16, 16, 16)


def test_same_seed_same_click_sequence(tiny_foundation: SamFoundation) -> None:
    foundation = tiny_foundation
    embedding = foundation.image_encoder(torch.ones(1, 1, 16, 16, 16))
    target = torch.zeros(1, 1, 16, 16, 16, dtype=torch.bool)
    target[0, 0, :8] = True

    def clicks(seed: int) -> list[list[float]]:
        generator = torch.Generator().manual_seed(seed)
        answers = list(click_sequence(foundation, foundation.decoder, embedding, target, 4, generator))
        result: list[list[float]] = answers[-1].coordinates[0].tolist()
        return result

    assert clicks(3) == clicks(3)
    assert clicks(3) != clicks(4)


def test_a_click_sequence_goes_on_where_it_was_left(tiny_foundation: SamFoundation) -> None:
    foundation, generator = tiny_foundation, torch.Generator().manual_seed(5)
    embedding = foundation.image_encoder(torch.ones(1, 1, 16, 16, 16))
    target = torch.zeros(2, 1, 16, 16, 16, dtype=torch.bool)
    target[:, 0, :8] = True

    def answers(n_clicks: int, after: ClickState | None = None) -> list[InteractionStep]:
        parts = foundation, foundation.decoder
        return list(click_sequence(*parts, embedding, target, n_clicks, generator, after=after))

    whole = answers(4)
    generator.manual_seed(5)
    first = answers(2)
    rest = answers(2, first[-1].remembered())
    for one, other in zip(whole, [*first, *rest], strict=True):
        assert torch.equal(one.coordinates, other.coordinates)
        assert torch.equal(one.labels, other.labels)
        assert torch.equal(one.logits, other.logits)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_an_answer_keeps_its_gradient_though_the_ones_before_have_none(
    tiny_foundation: SamFoundation, precision: str
) -> None:
    target = torch.zeros(1, 1, 16, 16, 16, dtype=torch.bool)
    target[0, 0, :8] = True

    def moved(n_clicks: int) -> dict[str, float]:
        foundation = copy.deepcopy(tiny_foundation).requires_grad_(True)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "bf16"):
            embedding = foundation.image_encoder(torch.ones(1, 1, 16, 16, 16))
            generator = torch.Generator().manual_seed(0)
            sequence = click_sequence(foundation, foundation.decoder, embedding, target, n_clicks, generator)
            with torch.no_grad():
                for _ in range(n_clicks - 1):
                    next(sequence)
            next(sequence).logits.mean().backward()
        return {name: float(p.grad.abs().max()) for name, p in foundation.named_parameters() if p.grad is not None}

    first, third = moved(1), moved(3)
    assert first.keys() <= third.keys()
    assert {name.split(".")[0] for name, size in third.items() if size > 0} == {
        *("image_encoder", "prompt_encoder", "mask_decoder")
    }
