"""Heads on a made set of samples."""

import torch

from moe_pipeline.model.moe.claim import EVIDENCE
from moe_pipeline.model.moe.gate import OODDetector
from moe_pipeline.training.claims.claim_samples import ClaimSample
from moe_pipeline.training.claims.heads import claim_of, fit_heads, shared_part
from moe_pipeline.training.interactive.case_windows import UNKNOWN, PromptDice

DETECTORS = [OODDetector(4, 1), OODDetector(4, 1)]


def sample(
    value: float, gain: float | None, *, owner: int = 0, expert: int = 1, nominee: int | None = None
) -> ClaimSample:
    """One kind of evidence tells all; the general expert has 0.5."""
    rests_on = torch.zeros(len(EVIDENCE))
    rests_on[0] = value
    general, own = (UNKNOWN, UNKNOWN) if gain is None else (PromptDice(0.5, 0.5), PromptDice(0.5 + gain, 0.5 + gain))
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
