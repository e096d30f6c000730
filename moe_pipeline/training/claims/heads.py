"""Learning how sure an expert may be: a claim head for each, fitted to prompts whose outcome is known."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from moe_pipeline.model.moe.claim import EVIDENCE, ClaimHead
from moe_pipeline.model.moe.gate import N_IMAGE_GROUPS, OODDetector
from moe_pipeline.training.claims.claim_samples import ClaimSample

_TOLERATED = 0.05  # Dice by which an expert may be worse on its own prompts, and is still who should answer
_LEAST_OWN, _LEAST_FOREIGN, _UNKNOWN = 0.1, 0.02, 0.3  # weights of prompts where both are alike, or nobody knows
_RIDGE, _RIDGE_OWN = 1e-2, 3e-3  # of what experts share, and of what each has for itself
_STEPS = 200


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
    values = template.terms(evidence)  # (n, T)
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


def claim_of(sample: ClaimSample, head: ClaimHead) -> float:
    """How sure the head is that the sample's expert does no worse."""
    return float(head(sample.evidence[None])[0])
