"""From which claim on an expert may answer: thresholds that hold a risk, chosen by synthetic scans."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from moe_pipeline.model.moe.claim import ClaimHead
from moe_pipeline.training.claims.claim_samples import ClaimSample
from moe_pipeline.training.claims.heads import claim_of
from moe_pipeline.training.claims.risk import steps_that_hold, upper_bound
from moe_pipeline.training.interactive.synthetic_scans import SYNTHETIC

THRESHOLDS = (*(round(0.5 + 0.02 * step, 2) for step in range(25)), 0.99, 0.995, 0.999)
"""That are tried; below one half nobody claims anything."""

Losses: TypeAlias = NDArray[np.float64]

NEVER = 1.0
"""Threshold of an expert that may never answer."""

_LEAST_COST, _COST_OF_BEING_NAMED = 1e-4, 1e-2  # Dice: heads have seen what costs are estimated by, so they flatter


@dataclass(frozen=True, slots=True)
class Calibration:
    """What a threshold was chosen by.

    Attributes:
        losses: (n,) Dice lost on each synthetic scan at the thresholds that were chosen, the mean with one click and
            with its corrections; negative where it is won.
        bound: what the mean loss does not exceed with the confidence.
        held: whether that is the risk asked for, or less.
    """

    losses: Losses
    bound: float
    held: bool


def losses_of(samples: Sequence[ClaimSample | None], heads: Sequence[ClaimHead], limits: Sequence[float]) -> Losses:
    """Dice that the mixture loses on each prompt, negative where it wins: of the nominee, where it claims the prompt.

    Args:
        samples: as the nominee claims them; None where nobody is nominated.
        heads: of all experts.
        limits: of each expert, above which it answers.
    """
    return _losses(_claims(samples, heads), limits)


def _claims(samples: Sequence[ClaimSample | None], heads: Sequence[ClaimHead]) -> list[tuple[int, float, float]]:
    """Expert, claim and gain of each prompt that somebody may claim; nothing is claimed of the others."""
    silent = (1, 0.0, 0.0)
    return [silent if s is None else (s.expert, claim_of(s, heads[s.expert - 1]), s.gain) for s in samples]


def _losses(claims: Sequence[tuple[int, float, float]], limits: Sequence[float]) -> Losses:
    return np.array([-gain if claim > limits[expert - 1] else 0.0 for expert, claim, gain in claims])


def set_thresholds(
    heads: Sequence[ClaimHead],
    learnt_from: Sequence[ClaimSample],
    scans: Sequence[ClaimSample | None],
    risk: float,
    confidence: float,
) -> Calibration:
    """Set each head's threshold; what it is chosen by.

    First all are silent. Then their thresholds come down step by step, for as long as the scans, of which no head has
    seen any, hold the risk with the confidence. The order of the steps, and how far down each may come, are fixed
    before by what the heads learnt from: first whatever wins most on an expert's own prompts for what it costs
    elsewhere, so nobody waits for an expert that harms; and none comes below the threshold at which it would lose more
    than the risk on prompts from elsewhere, gains not counted, if the gate knew nobody better: so each dataset in turn
    is unknown to the others' experts. Nor does one come down where that wins nothing on its own prompts: it would only
    let others in.

    Args:
        heads: changed.
        learnt_from: what they were fitted to.
        scans: independent prompts as their nominees claim them; None where nobody is nominated.
        risk: mean Dice that may be lost.
        confidence: that it is held.
    """
    path = _path(heads, learnt_from, risk)
    least = upper_bound(np.zeros(len(scans)), confidence)
    claims = _claims(scans, heads)  # once: the path has hundreds of steps
    losses_at = (_losses(claims, limits) for limits in path)
    steps = steps_that_hold(losses_at, max(risk, least), confidence)
    assert steps, "a silent mixture loses nothing"
    limits = path[steps - 1]
    for head, limit in zip(heads, limits, strict=True):
        head.threshold.fill_(limit)
    losses = _losses(claims, limits)
    bound = upper_bound(losses, confidence)
    return Calibration(losses, bound, held=bound <= risk)


def _path(heads: Sequence[ClaimHead], learnt_from: Sequence[ClaimSample], risk: float) -> list[list[float]]:
    """Thresholds of all experts: silent at first, then coming down, each to its lowest in the end."""
    prospects = [_Prospect.of(k, head, learnt_from) for k, head in enumerate(heads, start=1)]
    lowest = [one.lowest(risk) for one in prospects]
    limits = [NEVER] * len(heads)
    path = [limits]
    while jumps := [(k, t) for k, low in enumerate(lowest) for t in THRESHOLDS if low <= t < limits[k]]:
        k, goal = max(jumps, key=lambda jump: (prospects[jump[0]].worth(limits[jump[0]], jump[1]), -jump[1]))
        for threshold in (t for t in reversed(THRESHOLDS) if goal <= t < limits[k]):
            limits = [*limits[:k], threshold, *limits[k + 1 :]]
            path.append(limits)
    return path


@dataclass(frozen=True, slots=True)
class _Prospect:
    """What one expert would do at any threshold, by what its head learnt from.

    Attributes:
        own: (claim, gain) on its own prompts; a claim of 0 where it is not named.
        elsewhere: the same on all others, by where they are from.
        named: share of the synthetic scans, of those that any expert was asked about, for which it is named.
    """

    own: tuple[tuple[float, float], ...]
    elsewhere: tuple[tuple[tuple[float, float], ...], ...]
    named: float

    @classmethod
    def of(cls, expert: int, head: ClaimHead, samples: Sequence[ClaimSample]) -> "_Prospect":
        by_source: dict[str, list[tuple[float, float]]] = {}
        own: list[tuple[float, float]] = []
        for sample in (s for s in samples if s.expert == expert and s.known):
            may = sample.nominee == expert if sample.own else sample.in_distribution
            row = (claim_of(sample, head) if may else 0.0, sample.gain)
            (own if sample.own else by_source.setdefault(sample.source, [])).append(row)
        scans = {s.case for s in samples if s.source == SYNTHETIC}
        named = {s.case for s in samples if s.source == SYNTHETIC and s.nominee == expert}
        return cls(tuple(own), tuple(tuple(rows) for rows in by_source.values()), len(named) / max(1, len(scans)))

    def lost(self, threshold: float) -> float:
        """Mean Dice over the sources of other prompts, gains not counted."""
        means = [np.mean([max(0.0, -gain) * (claim > threshold) for claim, gain in rows]) for rows in self.elsewhere]
        return float(np.mean(means)) if means else 0.0

    def won(self, threshold: float) -> float:
        """Mean Dice on its own prompts."""
        return sum(gain for claim, gain in self.own if claim > threshold) / max(1, len(self.own))

    def lowest(self, risk: float) -> float:
        """The threshold that wins most of those that lose no more than the risk; the highest of several such ones."""
        allowed = [threshold for threshold in THRESHOLDS if self.lost(threshold) <= risk]
        return max(allowed, key=lambda threshold: (round(self.won(threshold), 9), threshold), default=NEVER)

    def worth(self, before: float, after: float) -> float:
        """What coming down wins on own prompts, for each Dice that it loses elsewhere."""
        won = self.won(after) - self.won(before)
        return won / (self.lost(after) - self.lost(before) + _LEAST_COST + _COST_OF_BEING_NAMED * self.named)
