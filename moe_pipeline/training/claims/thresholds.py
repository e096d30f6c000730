"""From which claim on an expert may answer: thresholds that hold a risk, chosen by synthetic scans."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from moe_pipeline.model.moe.claim import ClaimHead
from moe_pipeline.training.claims.claim_samples import ClaimSample
from moe_pipeline.training.claims.heads import claim_of
from moe_pipeline.training.claims.risk import steps_that_hold, upper_bound

THRESHOLDS = (*(round(0.5 + 0.02 * step, 2) for step in range(25)), 0.99, 0.995, 0.999)
"""That are tried; below one half nobody claims anything."""

Losses: TypeAlias = NDArray[np.float64]

NEVER = 1.0
"""Threshold of an expert that may never answer."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """What a threshold was chosen by.

    Attributes:
        losses: (n,) Dice lost on each synthetic scan at the thresholds that were chosen; negative where it is won.
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
    return np.array([0.0 if s is None else _loss(s, heads[s.expert - 1], limits[s.expert - 1]) for s in samples])


def _loss(sample: ClaimSample, head: ClaimHead, limit: float) -> float:
    return -sample.gain if claim_of(sample, head) > limit else 0.0


def set_thresholds(
    heads: Sequence[ClaimHead],
    learnt_from: Sequence[ClaimSample],
    scans: Sequence[ClaimSample | None],
    risk: float,
    confidence: float,
) -> Calibration:
    """Set each head's threshold; what it is chosen by.

    First all are silent. Then one expert after the other is let speak, its threshold coming down step by step, for as
    long as the scans, of which no head has seen any, hold the risk with the confidence. The order, and how far down
    each may come, are fixed before by what the heads learnt from: who costs least there speaks first, so nobody waits
    for an expert that harms; and none comes below the threshold at which it would lose more than the risk on prompts
    from elsewhere, gains not counted, if the gate knew nobody better: so each dataset in turn is unknown to the others'
    experts.

    Args:
        heads: changed.
        learnt_from: what they were fitted to.
        scans: independent prompts as their nominees claim them; None where nobody is nominated.
        risk: mean Dice that may be lost.
        confidence: that it is held.
    """
    path = _path(heads, learnt_from, risk)
    least = upper_bound(np.zeros(len(scans)), confidence)
    losses_at = (losses_of(scans, heads, limits) for limits in path)
    steps = steps_that_hold(losses_at, max(risk, least), confidence)
    assert steps, "a silent mixture loses nothing"
    limits = path[steps - 1]
    for head, limit in zip(heads, limits, strict=True):
        head.threshold.fill_(limit)
    losses = losses_of(scans, heads, limits)
    bound = upper_bound(losses, confidence)
    return Calibration(losses, bound, held=bound <= risk)


def _path(heads: Sequence[ClaimHead], learnt_from: Sequence[ClaimSample], risk: float) -> list[list[float]]:
    """Thresholds of all experts: silent at first, then one after the other down to its lowest."""
    elsewhere = [_Elsewhere.of(k, head, learnt_from) for k, head in enumerate(heads, start=1)]
    lowest = [next((t for t in THRESHOLDS if place.lost(t) <= risk), NEVER) for place in elsewhere]
    limits = [NEVER] * len(heads)
    path = [limits]
    for k in sorted(range(len(heads)), key=lambda k: elsewhere[k].net(lowest[k])):
        for threshold in (t for t in reversed(THRESHOLDS) if t >= lowest[k]):
            limits = [*limits[:k], threshold, *limits[k + 1 :]]
            path.append(limits)
    return path


@dataclass(frozen=True, slots=True)
class _Elsewhere:
    """What an expert would do to prompts that are not its own, by where they are from: (claim, gain) each."""

    sources: tuple[tuple[tuple[float, float], ...], ...]

    @classmethod
    def of(cls, expert: int, head: ClaimHead, samples: Sequence[ClaimSample]) -> "_Elsewhere":
        by_source: dict[str, list[tuple[float, float]]] = {}
        for sample in samples:
            if sample.expert == expert and sample.known and not sample.own:
                claim = claim_of(sample, head) if sample.in_distribution else 0.0
                by_source.setdefault(sample.source, []).append((claim, sample.gain))
        return cls(tuple(tuple(rows) for rows in by_source.values()))

    def lost(self, threshold: float) -> float:
        """Mean Dice over the sources, gains not counted."""
        return self._mean(threshold, lambda gain: max(0.0, -gain))

    def net(self, threshold: float) -> float:
        """The same with the gains, negative where they are more."""
        return self._mean(threshold, lambda gain: -gain)

    def _mean(self, threshold: float, loss: Callable[[float], float]) -> float:
        means = [np.mean([loss(gain) if claim > threshold else 0.0 for claim, gain in rows]) for rows in self.sources]
        return float(np.mean(means)) if means else 0.0
