"""Evidence that can be worked out by hand, and the head on it."""

import math

import pytest
import torch

from moe_pipeline.model.moe.claim import EVIDENCE, ClaimHead, FirstMask, ProposedClicks, agreement, evidence

SIZE = (16, 16, 16)
CLICK = torch.tensor([7.5, 7.5, 7.5])  # the middle of a window of 16 voxels


def ball(spacing_mm: float, radius_mm: float, iou: float = 0.5) -> FirstMask:
    """A sure ball around the click on 8 low-resolution voxels."""
    centres = torch.arange(8) * 2 + 0.5  # voxels
    x, y, z = torch.meshgrid(centres, centres, centres, indexing="ij")
    away_mm = ((x - 7.5) ** 2 + (y - 7.5) ** 2 + (z - 7.5) ** 2).sqrt() * spacing_mm
    return FirstMask(torch.where(away_mm <= radius_mm, 40.0, -40.0), iou, CLICK, (spacing_mm,) * 3, SIZE)


def named(values: torch.Tensor) -> dict[str, float]:
    return dict(zip(EVIDENCE, values.tolist(), strict=True))


def test_a_sure_mask_by_hand() -> None:
    mask = ball(1.0, 3.0)
    inside = int((mask.logits > 0).sum())
    assert mask.volume_ml == pytest.approx(inside * 8 / 1000)
    assert mask.certainty == pytest.approx(1.0)
    assert mask.at_click == pytest.approx(1.0)
    away = FirstMask(mask.logits, 0.5, torch.tensor([0.0, 0.0, 15.0]), (1.0,) * 3, SIZE)
    assert away.at_click == pytest.approx(0.0)


def test_equal_masks_agree_in_any_view_and_disjoint_ones_never() -> None:
    assert agreement(ball(1.0, 5.0), ball(1.0, 5.0)) == pytest.approx(1.0)
    assert agreement(ball(1.0, 5.0), ball(2.0, 5.0)) > 0.6  # only the coarse low-resolution voxels differ
    assert agreement(ball(2.0, 5.0), ball(1.0, 5.0)) == pytest.approx(agreement(ball(1.0, 5.0), ball(2.0, 5.0)))
    one = ball(1.0, 3.0)
    assert agreement(one, FirstMask(-one.logits, 0.5, CLICK, (1.0,) * 3, SIZE)) == pytest.approx(0.0, abs=1e-6)


def test_the_same_bar_agrees_in_crops_of_unequal_sides() -> None:
    """A bar of 8 x 8 x 12 mm: in a cube of voxels of 1 mm, and in a flat crop of voxels of 1 x 1 x 3 mm."""
    cube, flat = (torch.full(shape, -40.0) for shape in ((8, 8, 8), (8, 8, 4)))
    cube[2:6, 2:6, 1:7] = 40.0  # low-resolution voxels of 2 x 2 x 2 mm
    flat[2:6, 2:6, 0:2] = 40.0  # of 2 x 2 x 6 mm: it begins with the crop, 6 mm before the click
    one = FirstMask(cube, 0.5, CLICK, (1.0,) * 3, SIZE)
    other = FirstMask(flat, 0.5, torch.tensor([7.5, 7.5, 1.5]), (1.0, 1.0, 3.0), (16, 16, 8))
    assert one.volume_ml == pytest.approx(8 * 8 * 12 / 1000)
    assert other.volume_ml == pytest.approx(one.volume_ml)
    assert other.at_click == pytest.approx(1.0)
    assert agreement(one, other) > 0.9


def test_the_same_mask_shifted_with_its_click_still_agrees() -> None:
    one = ball(1.0, 3.0)
    moved = FirstMask(one.logits.roll(1, dims=2), 0.5, CLICK + torch.tensor([0.0, 0.0, 2.0]), (1.0,) * 3, SIZE)
    assert agreement(one, moved) == pytest.approx(1.0)


def test_the_heat_is_that_of_the_class_hottest_at_the_click() -> None:
    heat = torch.zeros(2, 4, 4, 4)
    heat[0, 0, 0, 0] = 0.6  # far from the click, in the corner
    heat[1, 1, 1, 1], heat[1, 3, 3, 3] = 0.1, 0.2
    found = named(
        evidence(ball(1.0, 3.0), ball(1.0, 5.0, iou=0.3), ProposedClicks(heat, torch.tensor([0.9, 0.4])), (2.0, 0.5))
    )
    assert found["heat_at_click"] == pytest.approx(math.log(0.3 + 1e-6), abs=1e-4)  # around (2, 2, 2): both of class 1
    assert found["heat_of_hottest"] == pytest.approx(1.0)
    assert found["presence"] == pytest.approx(0.4)
    assert found["heat_in_mask"] < 0.5
    assert [found["expert_iou"], found["general_iou"]] == pytest.approx([0.5, 0.3])
    assert found["size_ratio"] < 0
    assert [found["ood"], found["own_ood"]] == pytest.approx([math.log(2.0), math.log(0.5)], abs=1e-5)


def test_without_a_click_proposer_its_evidence_counts_as_average() -> None:
    values = evidence(ball(1.0, 3.0), ball(1.0, 3.0), None, (1.0, 0.9))
    assert values[:4].isnan().all()
    assert not values[4:].isnan().any()
    head = ClaimHead(2, 1)
    head.weight[:4] = 100.0
    head.weight[-1] = 1.0
    assert float(head(values[None])[0]) == pytest.approx(1 / (1 + math.exp(-1)))


def test_a_head_is_a_logistic_regression_of_standardised_evidence_cut_at_four() -> None:
    head = ClaimHead(2, 1)
    head.centre[0], head.scale[0], head.weight[0], head.weight[-1] = 1.0, 2.0, 0.5, -1.0
    values = torch.zeros(2, len(EVIDENCE))
    values[0, 0], values[1, 0] = 5.0, 1000.0
    wanted = [1 / (1 + math.exp(-(0.5 * z - 1.0))) for z in (2.0, 4.0)]
    assert head(values).tolist() == pytest.approx(wanted)


def test_products_of_two_numbers_count_half_and_are_cut_at_six() -> None:
    head, size = ClaimHead(2, 1), len(EVIDENCE)
    head.weight[size + 1] = 1.0  # of the first number times the second
    values = torch.zeros(2, size)
    values[0, :2], values[1, :2] = torch.tensor([1.5, -2.0]), torch.tensor([4.0, 4.0])
    assert head(values).tolist() == pytest.approx([1 / (1 + math.exp(1.5)), 1 / (1 + math.exp(-3.0))])
    assert head.terms(values).shape == (2, size + size * (size + 1) // 2 + 1)


def test_nothing_is_claimed_on_an_image_unlike_the_experts_own() -> None:
    head = ClaimHead(2, 1)
    head.weight[-1] = 5.0
    known, strange = (evidence(ball(1.0, 3.0), ball(1.0, 3.0), None, (0.5, score)) for score in (0.99, 1.01))
    claims = head(torch.stack([known, strange])).tolist()
    assert claims[0] > 0.9
    assert claims[1] == 0.0
