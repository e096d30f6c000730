"""How well a gate routes: thresholds, reliability, coverage, confusion; and the choice of tau."""

from collections.abc import Sequence

import torch
from torch import Tensor

from moe_pipeline.mixture.gate_files import DatasetFeatures
from moe_pipeline.model.moe.router import Router
from moe_pipeline.model.moe.selector import GENERAL
from moe_pipeline.records.moe import ReliabilityBin, ThresholdRow

TAUS = (*(round(0.05 * step, 2) for step in range(20)), 0.97, 0.99, 0.995, 0.999)
"""Thresholds that are tried."""

_BINS = 10


def choose_tau(router: Router, general: Sequence[DatasetFeatures], lowest: float = 0.0) -> float:
    """The smallest threshold at which every general dataset keeps its validation prompts, but for what it may lose.

    Without general data nothing can choose it: 0.5, so an expert speaks when it is likelier than all others together,
    or `lowest` if that is more.

    Args:
        router: gate and OOD detectors.
        general: datasets that belong to output 0.
        lowest: the first one to try.
    """
    if not general:
        return max(0.5, lowest)
    for tau in (tau for tau in TAUS if tau >= lowest):
        lost = [float((router.answering(d.validation, tau) != GENERAL).float().mean()) for d in general]
        if all(share <= d.may_lose for share, d in zip(lost, general, strict=True)):
            return tau
    return TAUS[-1]


def sweep(router: Router, datasets: Sequence[DatasetFeatures]) -> tuple[ThresholdRow, ...]:
    """What each threshold does to the validation prompts of all datasets."""
    features, wanted = _validation(datasets)
    return tuple(_sweep_row(router.answering(features, tau), wanted, tau) for tau in TAUS)


def reliability(router: Router, datasets: Sequence[DatasetFeatures]) -> tuple[ReliabilityBin, ...]:
    """Confidence of the gate against how often it is right, on validation prompts and before the OOD detectors."""
    features, wanted = _validation(datasets)
    return reliability_table(router.gate.weights(features), wanted)


def reliability_table(weights: Tensor, wanted: Tensor) -> tuple[ReliabilityBin, ...]:
    """Equal bins of confidence with what is in them; empty ones are left out.

    Args:
        weights: (P, N + 1) probabilities.
        wanted: (P,) the right output.
    """
    confidence, guess = weights.max(1)
    right = (guess == wanted).double()
    place = (confidence * _BINS).ceil().long().clamp(1, _BINS)
    return tuple(
        ReliabilityBin(
            low=(b - 1) / _BINS,
            high=b / _BINS,
            n=int((place == b).sum()),
            confidence=float(confidence[place == b].double().mean()),
            accuracy=float(right[place == b].mean()),
        )
        for b in range(1, _BINS + 1)
        if (place == b).any()
    )


def expected_calibration_error(table: Sequence[ReliabilityBin]) -> float:
    """Mean gap between confidence and accuracy over the bins, weighted by their size."""
    return sum(row.n * abs(row.confidence - row.accuracy) for row in table) / sum(row.n for row in table)


def confusion(
    router: Router, datasets: Sequence[DatasetFeatures], tau: float, outputs: Sequence[str]
) -> dict[str, dict[str, float]]:
    """Share of each dataset's validation prompts that each output answers.

    Args:
        router: gate and OOD detectors.
        datasets: to be routed.
        tau: of the selector.
        outputs: names, general first.
    """
    answered = {d.name: router.answering(d.validation, tau) for d in datasets}
    return {
        name: {output: float((routed == k).float().mean()) for k, output in enumerate(outputs)}
        for name, routed in answered.items()
    }


def known(router: Router, datasets: Sequence[DatasetFeatures]) -> dict[str, float]:
    """Share of each dataset's validation prompts whose image its own OOD detector knows; any for general datasets."""
    shares = {}
    for dataset in datasets:
        passed = router.knows(dataset.validation)  # (P, N)
        own = passed.any(1) if dataset.output == GENERAL else passed[:, dataset.output - 1]
        shares[dataset.name] = float(own.float().mean())
    return shares


def _validation(datasets: Sequence[DatasetFeatures]) -> tuple[Tensor, Tensor]:
    return torch.cat([d.validation for d in datasets]), torch.cat([d.wanted_in_validation for d in datasets])


def _sweep_row(routed: Tensor, wanted: Tensor, tau: float) -> ThresholdRow:
    general = wanted == GENERAL
    asked = routed != GENERAL
    kept = float((~asked)[general].float().mean()) if general.any() else None
    own = (routed == wanted)[~general]
    wrong = (asked & (routed != wanted))[~general]
    return ThresholdRow(
        tau=tau,
        general_kept=kept,
        own_expert=float(own.float().mean()) if len(own) else None,
        wrong_expert=float(wrong.float().mean()) if len(wrong) else None,
        coverage=float(asked.float().mean()),
    )
