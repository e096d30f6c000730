"""Learning when an expert may answer: a claim head for each expert, and the thresholds that hold the risk."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from moe_pipeline.model.moe.claim import EVIDENCE, ClaimHead
from moe_pipeline.model.moe.gate import N_IMAGE_GROUPS, OODDetector
from moe_pipeline.training.gate.claim_samples import ClaimSample
from moe_pipeline.training.gate.risk import lowest_threshold, upper_bound

THRESHOLDS = (*(round(0.5 + 0.02 * step, 2) for step in range(25)), 0.99, 0.995, 0.999)
"""That are tried; below one half nobody claims anything."""

Losses: TypeAlias = NDArray[np.float64]

NEVER = 1.0
"""Threshold of an expert that may never answer."""

_TOLERATED = 0.05  # Dice by which an expert may be worse on its own prompts, and is still who should answer
_LEAST_OWN, _LEAST_FOREIGN, _UNKNOWN = 0.1, 0.02, 0.3  # weights of prompts where both are alike, or nobody knows
_RIDGE, _RIDGE_OWN = 1e-2, 3e-3  # of what experts share, and of what each has for itself
_STEPS = 200


@dataclass(frozen=True, slots=True)
class Calibration:
    """What a threshold was chosen by.

    Attributes:
        losses: (n,) Dice lost on each synthetic scan at the thresholds that were chosen.
        bound: what the mean loss does not exceed with the confidence.
        held: whether that is the risk asked for, or less.
    """

    losses: Losses
    bound: float
    held: bool


def fit_heads(
    samples: Sequence[ClaimSample], detectors: Sequence[OODDetector], prior: ClaimHead | None = None
) -> list[ClaimHead]:
    """Ridge-regularised logistic regression: does the expert do no worse than the general one?

    All experts share their weights, and each has an offset of its own. Prompts count by the
    Dice that is at stake; for each expert, those that it should answer count together as much as the others.

    Args:
        samples: of all experts, each with some of both kinds.
        detectors: of the experts, each in its own view.
        prior: a head whose standardisation and weights are taken over, of which the experts only learn offsets.
    """
    evidence = torch.stack([sample.evidence for sample in samples])  # (n, E)
    expert = torch.tensor([sample.expert - 1 for sample in samples])
    wanted = torch.tensor([float(_should_answer(sample)) for sample in samples])
    weight = _balanced(torch.tensor([_stake(sample) for sample in samples]), expert, wanted)
    template = _standardising(evidence) if prior is None else prior
    values = template.standardised(evidence)  # (n, E + 1)
    shared = template.weight.clone().requires_grad_(prior is None)
    own = torch.zeros(len(detectors), values.shape[1], requires_grad=True)

    def loss() -> Tensor:
        logits = (values * (shared + own[expert])).sum(1)
        fit = functional.binary_cross_entropy_with_logits(logits, wanted, weight=weight)
        return fit + _RIDGE * shared[:-1].square().sum() + _RIDGE_OWN * own.square().sum()

    _minimise(loss, [own] if prior is not None else [own, shared])
    return [
        _head(template, weight, own_view) for weight, own_view in zip((shared + own).detach(), detectors, strict=True)
    ]


def _should_answer(sample: ClaimSample) -> bool:
    return sample.gain > -_TOLERATED if sample.own else sample.known and sample.gain > 0


def _stake(sample: ClaimSample) -> float:
    if not sample.known:
        return _UNKNOWN
    return max(abs(sample.gain), _LEAST_OWN) if sample.own else abs(sample.gain) + _LEAST_FOREIGN


def _balanced(weight: Tensor, expert: Tensor, wanted: Tensor) -> Tensor:
    """Weights whose sum is the same over both kinds of prompts of every expert; their mean is 1."""
    even = torch.zeros_like(weight)
    for k in torch.unique(expert):
        for kind in (0.0, 1.0):
            part = (expert == k) & (wanted == kind)
            if part.any():
                even[part] = weight[part] / weight[part].sum()
    return even / even.mean()


def _standardising(evidence: Tensor) -> ClaimHead:
    head = ClaimHead(1, 1)
    centre = evidence.nanmean(0).nan_to_num(0.0)
    spread = (evidence - centre).square().nanmean(0).sqrt().nan_to_num(1.0)
    head.centre.copy_(centre)
    head.scale.copy_(torch.where(spread > 1e-6, spread, 1.0))
    return head


def _head(template: ClaimHead, weight: Tensor, detector: OODDetector) -> ClaimHead:
    width, rank = len(detector.mean) // N_IMAGE_GROUPS, detector.whitener.shape[1]
    head = ClaimHead(width, rank)
    head.ood_detector.load_state_dict(detector.state_dict())
    head.centre.copy_(template.centre)
    head.scale.copy_(template.scale)
    head.weight.copy_(weight)
    return head


def _minimise(loss: Callable[[], Tensor], variables: list[Tensor]) -> None:
    optimizer = torch.optim.LBFGS(variables, max_iter=_STEPS, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = loss()
        value.backward()  # type: ignore[no-untyped-call]
        return value

    optimizer.step(closure)  # type: ignore[no-untyped-call]


def shared_part(heads: Sequence[ClaimHead]) -> ClaimHead:
    """What the heads of a model have in common, for an expert that is added."""
    assert heads, f"no head with {len(EVIDENCE)} kinds of evidence"
    weight = torch.stack([head.weight for head in heads]).mean(0)
    return _head(heads[0], weight, heads[0].ood_detector)


def losses_of(samples: Sequence[ClaimSample | None], heads: Sequence[ClaimHead], limits: Sequence[float]) -> Losses:
    """Dice that the mixture loses on each prompt: of the nominee, where it claims the prompt and does worse.

    Args:
        samples: as the nominee claims them; None where nobody is nominated.
        heads: of all experts.
        limits: of each expert, above which it answers.
    """
    return np.array([0.0 if s is None else _loss(s, heads[s.expert - 1], limits[s.expert - 1]) for s in samples])


def _loss(sample: ClaimSample, head: ClaimHead, limit: float) -> float:
    return max(0.0, -sample.gain) if claim_of(sample, head) > limit else 0.0


def claim_of(sample: ClaimSample, head: ClaimHead) -> float:
    """How sure the head is that the sample's expert does no worse."""
    return float(head(sample.evidence[None])[0])


def set_thresholds(
    heads: Sequence[ClaimHead],
    learnt_from: Sequence[ClaimSample],
    scans: Sequence[ClaimSample | None],
    risk: float,
    confidence: float,
) -> Calibration:
    """Set each head's threshold; what it is chosen by.

    Each expert first gets the lowest threshold at which it loses nothing on those prompts from elsewhere that its head
    learnt from and whose image its OOD detector knows, as if the gate knew nobody better: so each dataset in turn is
    unknown to the others' experts. From there all thresholds rise together along a path that the scans have
    no part in, until the scans, of which no head has seen any, hold the risk with the confidence: first those of the
    experts that did lose something, up to silence, then the others'. So nobody waits for an expert that harms.

    Args:
        heads: changed.
        learnt_from: what they were fitted to.
        scans: independent prompts as their nominees claim them; None where nobody is nominated.
        risk: mean Dice that may be lost.
        confidence: that it is held.
    """
    path = _path(heads, learnt_from)
    least = upper_bound(np.zeros(len(scans)), confidence)
    step = lowest_threshold(
        lambda level: losses_of(scans, heads, path[round(level)]), range(len(path)), max(risk, least), confidence
    )
    assert step is not None, "a silent mixture loses nothing"
    limits = path[round(step)]
    for head, limit in zip(heads, limits, strict=True):
        head.threshold.fill_(limit)
    losses = losses_of(scans, heads, limits)
    bound = upper_bound(losses, confidence)
    return Calibration(losses, bound, held=bound <= risk)


def _path(heads: Sequence[ClaimHead], learnt_from: Sequence[ClaimSample]) -> list[list[float]]:
    """Thresholds of all experts, each step at least as high as the one before; silent in the end."""
    harmed, lowest = [], []
    for k, head in enumerate(heads, start=1):
        foreign = [s for s in learnt_from if s.expert == k and s.known and not s.own and s.in_distribution]
        harm = [claim_of(s, head) for s in foreign if s.gain < 0 and claim_of(s, head) > THRESHOLDS[0]]
        harmed.append(bool(harm))
        lowest.append(next((t for t in THRESHOLDS if not harm or t >= max(harm)), NEVER))
    rising = [*THRESHOLDS, NEVER]
    first = [[max(t, low) if bad else low for bad, low in zip(harmed, lowest, strict=True)] for t in rising]
    then = [[NEVER if bad else max(t, low) for bad, low in zip(harmed, lowest, strict=True)] for t in rising]
    return [*first, *then]
