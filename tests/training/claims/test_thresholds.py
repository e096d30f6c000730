"""Thresholds on made samples whose losses are known."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from moe_pipeline.model.moe.claim import EVIDENCE, ClaimHead
from moe_pipeline.training.claims.claim_samples import ClaimSample
from moe_pipeline.training.claims.thresholds import NEVER, losses_of, set_thresholds
from moe_pipeline.training.interactive.case_windows import PromptDice
from moe_pipeline.training.interactive.synthetic_scans import SYNTHETIC

OOD = EVIDENCE.index("ood")
GENERAL = PromptDice(0.5, 0.5)


def sure_head() -> ClaimHead:
    """Claims sigmoid(value)."""
    head = ClaimHead(2, 1)
    head.weight[0] = 1.0
    return head


def claimed(claim: float, gain: float, *, expert: int = 1, source: str = "set") -> ClaimSample:
    """A prompt from elsewhere, as a sure head claims it; the general expert has 0.5."""
    rests_on = torch.zeros(len(EVIDENCE))
    rests_on[0] = float(np.log(claim / (1 - claim)))
    return ClaimSample(source, "case", 0, expert, expert, rests_on, GENERAL, PromptDice(0.5 + gain, 0.5 + gain))


def own(claim: float, gain: float, *, expert: int = 1) -> ClaimSample:
    """A prompt on the expert's own dataset, for which it is named."""
    return replace(claimed(claim, gain, expert=expert), owner=expert)


UNSURE = own(0.505, 0.1)
"""Wins something of its own down to the lowest threshold."""


def test_what_an_answer_wins_is_a_negative_loss_and_silence_loses_nothing() -> None:
    scans = [claimed(0.9, -0.25), claimed(0.6, -0.5), claimed(0.95, 0.4), None]
    assert losses_of(scans, [sure_head()], [0.5]) == pytest.approx([0.25, 0.5, -0.4, 0.0])
    assert losses_of(scans, [sure_head()], [0.7]) == pytest.approx([0.25, 0.0, -0.4, 0.0])


def test_what_is_lost_with_further_clicks_counts_as_much_as_with_the_first() -> None:
    late = replace(claimed(0.605, 0.0), expert_dice=PromptDice(0.6, 0.0))
    assert late.gains == pytest.approx((0.1, -0.5))
    assert losses_of([late], [sure_head()], [0.5]) == pytest.approx([0.2])


def test_the_threshold_comes_down_for_as_long_as_unseen_scans_hold_the_risk() -> None:
    # 100 scans: 20^(1/100) - 1 = 0.0304 without a loss; the one at 0.605 loses 0.5 and is not borne
    head = sure_head()
    scans = [claimed(0.605, -0.5), *[None] * 99]
    calibration = set_thresholds([head], [UNSURE], scans, 0.031, 0.95)
    assert float(head.threshold) == pytest.approx(0.62)
    assert calibration.held
    assert calibration.bound == pytest.approx(20 ** (1 / 100) - 1)


def test_what_is_won_pays_for_what_is_lost() -> None:
    # ln(1.031 + 0.5) + ln(1.031 - 0.3) + 98 ln 1.031 = 0.426 - 0.313 + 2.992 = 3.105 > ln 20
    head = sure_head()
    scans = [claimed(0.8, 0.5), claimed(0.605, -0.3), *[None] * 98]
    calibration = set_thresholds([head], [UNSURE], scans, 0.031, 0.95)
    assert float(head.threshold) == 0.5
    assert calibration.losses.sum() == pytest.approx(-0.2)


def test_with_too_few_scans_the_bound_that_can_be_shown_is_kept_and_said() -> None:
    head = sure_head()
    calibration = set_thresholds([head], [UNSURE], [claimed(0.605, -0.5), *[None] * 9], 0.002, 0.95)
    assert not calibration.held
    assert calibration.bound == pytest.approx(20 ** (1 / 10) - 1)
    assert float(head.threshold) == pytest.approx(0.62)


def test_an_expert_starts_where_it_loses_no_more_than_the_risk_elsewhere_if_it_were_alone() -> None:
    head, other = sure_head(), sure_head()
    unknown_image = claimed(0.95, -0.5, expert=2)
    unknown_image.evidence[OOD] = 0.1
    # two sources: 0.5 of two prompts in one, nothing in the other: (0.25 + 0) / 2 = 0.125 at most at 0.5
    learnt_from = [claimed(0.71, -0.5), claimed(0.55, 0.3), claimed(0.55, 0.1, source="b"), unknown_image]
    learnt_from += [own(0.725, 0.1), UNSURE, replace(UNSURE, owner=2, expert=2, nominee=2)]
    set_thresholds([head, other], learnt_from, [None] * 10, 0.124, 0.5)
    assert float(head.threshold) == pytest.approx(0.72)
    assert float(other.threshold) == 0.5
    set_thresholds([head, other], learnt_from, [None] * 10, 0.126, 0.5)
    assert float(head.threshold) == 0.5


def test_who_wins_most_for_what_it_costs_comes_down_first_and_waits_for_nobody() -> None:
    costly, cheap = sure_head(), sure_head()
    learnt_from = [own(0.95, 0.4), claimed(0.6, -0.02), own(0.95, 0.5, expert=2), claimed(0.6, 0.2, expert=2)]
    learnt_from += [own(0.625, 0.1), replace(UNSURE, owner=2, expert=2, nominee=2)]
    scans = [claimed(0.9, -0.5), *[None] * 99]  # the costly expert's; without a loss 5^(1/100) - 1 = 0.0162
    set_thresholds([costly, cheap], learnt_from, scans, 0.02, 0.8)
    assert float(cheap.threshold) == 0.5
    assert float(costly.threshold) == pytest.approx(0.9)  # what its scan costs, only it pays for


def test_who_is_asked_about_many_scans_comes_last() -> None:
    asked, quiet = sure_head(), sure_head()
    scan = replace(claimed(0.4, 0.1), source=SYNTHETIC)
    learnt_from = [own(0.95, 0.4), scan, own(0.55, 0.3, expert=2)]
    set_thresholds([asked, quiet], learnt_from, [claimed(0.97, -0.9), *[None] * 99], 0.02, 0.8)
    assert float(quiet.threshold) == pytest.approx(0.54)
    assert float(asked.threshold) == pytest.approx(0.98)


def test_nobody_comes_down_where_that_wins_nothing_of_its_own() -> None:
    head = sure_head()
    set_thresholds([head], [own(0.75, 0.3), own(0.61, -0.2)], [None] * 100, 0.05, 0.95)
    assert float(head.threshold) == pytest.approx(0.74)


def test_an_expert_that_only_harms_is_silent() -> None:
    head = ClaimHead(2, 1)
    head.weight[-1] = 20.0  # it claims everything
    set_thresholds([head], [claimed(0.5, -0.5)], [None] * 10, 0.01, 0.5)
    assert float(head.threshold) == NEVER
