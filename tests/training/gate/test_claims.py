"""Heads and thresholds on a made set of samples."""

import numpy as np
import pytest
import torch

from moe_pipeline.model.moe.claim import EVIDENCE, ClaimHead
from moe_pipeline.model.moe.gate import OODDetector
from moe_pipeline.training.gate.claim_samples import ClaimSample
from moe_pipeline.training.gate.claims import NEVER, claim_of, fit_heads, losses_of, set_thresholds, shared_part

DETECTORS = [OODDetector(4, 1), OODDetector(4, 1)]


def sample(
    value: float, gain: float | None, *, owner: int = 0, expert: int = 1, nominee: int | None = None
) -> ClaimSample:
    """One kind of evidence tells all; the general expert has 0.5."""
    rests_on = torch.zeros(len(EVIDENCE))
    rests_on[0] = value
    general, own = (float("nan"), float("nan")) if gain is None else (0.5, 0.5 + gain)
    return ClaimSample("set", "case", owner, expert, expert if nominee is None else nominee, rests_on, general, own)


def own_and_foreign(expert: int, sign: float = 1.0) -> list[ClaimSample]:
    own = [sample(sign * (1 + 0.1 * n), 0.3, owner=expert, expert=expert) for n in range(10)]
    foreign = [sample(sign * (-1 - 0.1 * n), -0.4, expert=expert) for n in range(10)]
    return [*own, *foreign, sample(sign * -1.0, None, owner=expert, expert=expert)]


def test_a_head_claims_what_its_expert_does_better_and_leaves_background_clicks() -> None:
    (head,) = fit_heads(own_and_foreign(1), DETECTORS[:1])
    assert claim_of(sample(1.5, 0.3, owner=1), head) > 0.8
    assert claim_of(sample(-1.5, -0.4), head) < 0.2
    assert claim_of(sample(-1.0, None, owner=1), head) < 0.3


def test_an_expert_that_differs_from_the_others_learns_its_own_offset() -> None:
    usual, other = fit_heads([*own_and_foreign(1), *own_and_foreign(1), *own_and_foreign(2, sign=-1.0)], DETECTORS)
    assert claim_of(sample(1.5, 0.3, owner=1), usual) > 0.5 > claim_of(sample(-1.5, -0.4), usual)
    assert claim_of(sample(-1.5, 0.3, owner=2, expert=2), other) > claim_of(sample(1.5, -0.4, expert=2), other)


def test_an_added_expert_takes_over_what_the_others_share() -> None:
    prior = shared_part(fit_heads(own_and_foreign(1), DETECTORS[:1]))
    few = [sample(1.0, 0.2, owner=1), sample(-1.0, -0.2)]
    (added,) = fit_heads(few, DETECTORS[:1], prior)
    assert torch.equal(added.centre, prior.centre)
    assert claim_of(sample(1.5, 0.3, owner=1), added) > 0.8


def sure_head() -> ClaimHead:
    """Claims sigmoid(value)."""
    head = ClaimHead(2, 1)
    head.weight[0] = 1.0
    return head


def claimed(claim: float, gain: float) -> ClaimSample:
    return sample(float(np.log(claim / (1 - claim))), gain)


def test_losses_are_of_answers_that_are_worse_and_of_nobody_else() -> None:
    scans = [claimed(0.9, -0.25), claimed(0.6, -0.5), claimed(0.95, 0.4), None]
    assert losses_of(scans, [sure_head()], [0.5]) == pytest.approx([0.25, 0.5, 0.0, 0.0])
    assert losses_of(scans, [sure_head()], [0.7]) == pytest.approx([0.25, 0.0, 0.0, 0.0])


def test_the_common_threshold_is_the_lowest_that_holds_the_risk_on_unseen_scans() -> None:
    # 100 scans: 20^(1/100) - 1 = 0.0304 without a loss; the one at 0.605 loses 1 and is not borne
    head = sure_head()
    scans = [claimed(0.605, -1.0), *[None] * 99]
    calibration = set_thresholds([head], [], scans, 0.031, 0.95)
    assert float(head.threshold) == pytest.approx(0.62)
    assert calibration.held
    assert calibration.bound == pytest.approx(20 ** (1 / 100) - 1)


def test_with_too_few_scans_the_bound_that_can_be_shown_is_kept_and_said() -> None:
    head = sure_head()
    calibration = set_thresholds([head], [], [claimed(0.605, -1.0), *[None] * 9], 0.002, 0.95)
    assert not calibration.held
    assert calibration.bound == pytest.approx(20 ** (1 / 10) - 1)
    assert float(head.threshold) == pytest.approx(0.62)


def test_each_expert_waits_for_its_own_harm_and_not_for_that_of_the_others() -> None:
    harmful, harmless = sure_head(), sure_head()
    others = sample(3.0, -0.5, expert=2)
    others.evidence[EVIDENCE.index("ood")] = 0.1
    learnt_from = [claimed(0.71, -0.5), others]
    set_thresholds([harmful, harmless], learnt_from, [None] * 10, 0.01, 0.5)
    assert float(harmful.threshold) == pytest.approx(0.72)
    assert float(harmless.threshold) == 0.5  # its harm is on an image that its OOD detector does not know
    scan = claimed(0.9, -1.0)
    set_thresholds([harmful, harmless], learnt_from, [scan, *[None] * 99], 0.02, 0.8)
    assert float(harmful.threshold) == pytest.approx(0.9)  # what its scan costs, only it pays for
    assert float(harmless.threshold) == 0.5


def test_an_expert_that_only_harms_is_silent() -> None:
    head = ClaimHead(2, 1)
    head.weight[-1] = 20.0  # it claims everything
    set_thresholds([head], [claimed(0.5, -0.5)], [None] * 10, 0.01, 0.5)
    assert float(head.threshold) == NEVER
