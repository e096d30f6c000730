"""From experts and their gate to claims: evidence on real and synthetic prompts, heads, thresholds, their worth."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from moe_pipeline.errors import PipelineError
from moe_pipeline.model.moe.claim import EVIDENCE, ClaimHead
from moe_pipeline.model.moe.selector import GENERAL
from moe_pipeline.progress import Progress, silent, track
from moe_pipeline.records.moe import Claims, ExpertClaim, GateCard, Guarantee, ThresholdRow
from moe_pipeline.training.claims.claim_samples import ClaimSample, samples_on
from moe_pipeline.training.claims.heads import claim_of, fit_heads
from moe_pipeline.training.claims.kept_outcomes import KeptOutcomes
from moe_pipeline.training.claims.panel import Panel
from moe_pipeline.training.claims.prompted_images import DatasetPrompts, scan_image
from moe_pipeline.training.claims.risk import samples_needed
from moe_pipeline.training.claims.thresholds import Calibration, set_thresholds
from moe_pipeline.training.interactive.synthetic_scans import CALIBRATION, SYNTHETIC, TRAINING

BACKGROUND_CLICKS = "-background_clicks"
"""Behind a dataset's name: prompts on what is not labelled in its images."""

GENERAL_NAME = "general"
"""First output of a gate that was trained with its experts; that of an added expert has another name."""

_SPARE = 2.2  # times the scans that suffice without any loss: without some room, one loss would silence everybody


@dataclass(frozen=True, slots=True)
class ClaimSettings:
    """What claims are learnt from, and how much they may cost."""

    risk: float = 0.002
    """Mean Dice that the mixture may lose on prompts that no expert is meant for."""
    confidence: float = 0.95
    """That this is held."""
    own: int = 48
    """Prompts on the objects of each expert's validation cases, about."""
    background: int = 16
    """Background clicks in the same images, about."""
    foreign: int = 6
    """Prompts on each dataset that all other experts are asked about."""
    synthetic: int = 12
    """Synthetic scans that all experts are asked about."""
    named: int = 200
    """Further ones that the expert is asked about whom the gate names."""
    seed: int = 0
    """Of clicks."""

    def __post_init__(self) -> None:
        if not (0 < self.risk < 1 and 0 < self.confidence < 1):
            raise PipelineError(
                f"--risk and --confidence lie between 0 and 1, got {self.risk:g} and {self.confidence:g}"
            )

    @property
    def scans(self) -> int:
        """Synthetic scans on which the risk is measured."""
        return round(_SPARE * samples_needed(self.risk, self.confidence))


@dataclass(frozen=True, slots=True)
class LearntClaims:
    """Heads in the order of the experts, and what the samples say about them."""

    heads: list[ClaimHead]
    own: list[ClaimSample]
    others: dict[str, list[ClaimSample | None]]
    """By synthetic set or general dataset: its prompts, None where nobody may claim one."""
    described: Claims


def learn_claims(
    panel: Panel,
    drawn: Sequence[DatasetPrompts],
    features: Tensor,
    settings: ClaimSettings,
    kept: KeptOutcomes,
    prior: ClaimHead | None = None,
    progress: Progress = silent,
) -> LearntClaims:
    """Learn when each expert may answer.

    Args:
        panel: experts behind their gate.
        drawn: the experts' datasets with their validation cases, and general datasets.
        features: (n, 5C) of the calibration scans, as `scan_features` gives them.
        settings: how much of what.
        kept: what was computed before; gets what is computed now.
        prior: of a model that the expert is added to.
        progress: told after each dataset and scan.
    """
    own, foreign = list[ClaimSample](), list[ClaimSample]()
    for source in track(list(drawn), "claims", progress):
        if source.output != GENERAL:
            own += _own(panel, source, settings, kept)
        foreign += _elsewhere(panel, source, settings, kept)
    foreign += _synthetic(panel, settings, kept, progress)
    learnt_from = [*own, *foreign]
    heads = fit_heads(learnt_from, panel.own_detectors, prior)
    synthetic = _calibration(panel, features, kept, progress)
    general = {s.raw.name: _general(panel, s, settings, kept) for s in drawn if s.output == GENERAL}
    scans = [*synthetic, *(sample for samples in general.values() for sample in samples)]
    calibration = set_thresholds(heads, learnt_from, scans, settings.risk, settings.confidence)
    experts = {e.name: _expert_claim(k, heads[k - 1], own) for k, e in enumerate(panel.experts, start=1)}
    guarantee = _guarantee(calibration, scans, heads, len(features), settings)
    ranks = tuple(head.ood_detector.whitener.shape[1] for head in heads)
    described = Claims(evidence=EVIDENCE, ood_ranks=ranks, guarantee=guarantee, experts=experts)
    return LearntClaims(heads, own, {SYNTHETIC: synthetic, **general}, described)


def _own(panel: Panel, source: DatasetPrompts, settings: ClaimSettings, kept: KeptOutcomes) -> list[ClaimSample]:
    """Prompts on a dataset's objects and background clicks, as its expert and the nominee claim them."""
    images = source.own(panel, settings.own, settings.background, settings.seed)

    def asked(nominee: int) -> tuple[int, ...]:
        return tuple(dict.fromkeys((source.output, *_if_named(nominee))))

    return _there(sample for image in images for sample in samples_on(image, panel, kept, asked))


def _elsewhere(panel: Panel, source: DatasetPrompts, settings: ClaimSettings, kept: KeptOutcomes) -> list[ClaimSample]:
    """Prompts on a dataset's objects, as all other experts would claim them, known image or not."""
    others = tuple(output for output in range(1, len(panel.experts) + 1) if output != source.output)
    images = source.elsewhere(panel, settings.foreign if others else 0, settings.seed)
    return _there(sample for image in images for sample in samples_on(image, panel, kept, lambda _: others))


def _synthetic(panel: Panel, settings: ClaimSettings, kept: KeptOutcomes, progress: Progress) -> list[ClaimSample]:
    """Synthetic scans as every expert would claim them, and more as their nominees would."""
    everybody, samples = tuple(range(1, len(panel.experts) + 1)), list[ClaimSample]()
    for number in track(range(settings.synthetic + settings.named), "synthetic claims", progress):
        image = scan_image(TRAINING, number, panel)
        if number < settings.synthetic:
            samples += _there(samples_on(image, panel, kept, lambda _: everybody))
        else:
            samples += _there(samples_on(image, panel, kept, _if_named, screened=True))
    return samples


def _calibration(panel: Panel, features: Tensor, kept: KeptOutcomes, progress: Progress) -> list[ClaimSample | None]:
    """The calibration scans as their nominees claim them; only those that may be claimed are decoded."""
    samples = list[ClaimSample | None]()
    for number in track(range(len(features)), "risk", progress):
        image, row = scan_image(CALIBRATION, number, panel), features[number : number + 1]
        found = samples_on(image, panel, kept, _if_named, screened=True, features=row)
        samples.append(next(found, None))
    return samples


def _general(
    panel: Panel, source: DatasetPrompts, settings: ClaimSettings, kept: KeptOutcomes
) -> list[ClaimSample | None]:
    """One prompt on each validation case of a general dataset, from which no head has learnt."""
    images = source.held_out(panel, settings.seed)
    return [next(samples_on(image, panel, kept, _if_named, screened=True), None) for image in images]


def _if_named(nominee: int) -> tuple[int, ...]:
    return () if nominee == GENERAL else (nominee,)


def _there(samples: Iterable[ClaimSample | None]) -> list[ClaimSample]:
    return [sample for sample in samples if sample is not None]


def _expert_claim(output: int, head: ClaimHead, own: Sequence[ClaimSample]) -> ExpertClaim:
    asked = [s for s in own if s.expert == output and s.owner == output]
    prompts, beside = [s for s in asked if s.known], [s for s in asked if not s.known]
    answers = np.array([_answers(s, head) for s in prompts], dtype=float)
    gains = np.array([s.gain for s in prompts])
    background = float(np.mean([_answers(s, head) for s in beside])) if beside else None
    return ExpertClaim(
        threshold=round(float(head.threshold), 4),
        prompts=len(prompts),
        answered=float(answers.mean()),
        wins=float((answers * gains).mean()),
        could_win=float(gains.mean()),
        background=background,
    )


def _answers(sample: ClaimSample, head: ClaimHead, threshold: float | None = None) -> bool:
    """Whether the gate names the sample's expert, and its claim is above the head's threshold, or another one."""
    limit = float(head.threshold) if threshold is None else threshold
    return sample.nominee == sample.expert and claim_of(sample, head) > limit


def _guarantee(
    calibration: Calibration,
    scans: Sequence[ClaimSample | None],
    heads: Sequence[ClaimHead],
    synthetic: int,
    settings: ClaimSettings,
) -> Guarantee:
    named = [s for s in scans if s is not None]
    answered = [s for s in named if _answers(s, heads[s.expert - 1])]
    count = max(1, len(scans))
    return Guarantee(
        risk=settings.risk,
        confidence=settings.confidence,
        bound=calibration.bound,
        held=calibration.held,
        mean_loss=float(calibration.losses.mean()) if len(scans) else 0.0,
        lost=float(calibration.losses.clip(min=0).mean()) if len(scans) else 0.0,
        first_loss=-sum(s.gains[0] for s in answered) / count,
        corrected_loss=-sum(s.gains[1] for s in answered) / count,
        prompts=len(scans),
        synthetic=synthetic,
        named=len(named) / count,
        answered=len(answered) / count,
    )


def described_by(card: GateCard, learnt: LearntClaims, outputs: Sequence[str], taus: Sequence[float]) -> GateCard:
    """A gate's card with who answers by the claims, instead of by the gate's weights.

    Args:
        card: of the gate.
        learnt: its claims.
        outputs: names, general (or others) first.
        taus: thresholds for the sweep.
    """
    confusion = {**card.confusion, **_confusion(learnt, outputs)}
    lowest = min(float(head.threshold) for head in learnt.heads)
    return card.model_copy(
        update={
            "claims": learnt.described,
            "confusion": confusion,
            "coverage": {name: 1 - row[outputs[0]] for name, row in confusion.items()},
            "sweep": tuple(_sweep_row(learnt, tau) for tau in taus),
            "tau": min(lowest, taus[-1]) if outputs[0] == GENERAL_NAME else card.tau,
        }
    )


def _confusion(learnt: LearntClaims, outputs: Sequence[str]) -> dict[str, dict[str, float]]:
    groups = {name: list(samples) for name, samples in learnt.others.items() if samples}
    for sample in learnt.own:
        name = sample.source if sample.known else sample.source + BACKGROUND_CLICKS
        groups.setdefault(name, []).append(sample)
    return {name: _shares(group, learnt.heads, outputs) for name, group in groups.items()}


def _shares(
    group: Sequence[ClaimSample | None], heads: Sequence[ClaimHead], outputs: Sequence[str]
) -> dict[str, float]:
    """Share of prompts that each output answers; each is there once for its own expert or for nobody."""
    prompts = sum(s is None or s.owner in (GENERAL, s.expert) for s in group)
    answered = Counter(outputs[s.expert] for s in group if s is not None and _answers(s, heads[s.expert - 1]))
    shares = {output: answered[output] / prompts for output in outputs[1:]}
    return {outputs[0]: 1 - sum(shares.values()), **shares}


def _sweep_row(learnt: LearntClaims, tau: float) -> ThresholdRow:
    """What one threshold for all experts would do."""
    prompts = [s for s in learnt.own if s.known]
    right = [_answers(s, learnt.heads[s.expert - 1], tau) for s in prompts if s.expert == s.owner]
    wrong = [_answers(s, learnt.heads[s.expert - 1], tau) for s in prompts if s.expert != s.owner]
    scans = [s for samples in learnt.others.values() for s in samples]
    others = [s is not None and _answers(s, learnt.heads[s.expert - 1], tau) for s in scans]
    count, everything = max(1, len(right)), max(1, len(right) + len(others))
    return ThresholdRow(
        tau=tau,
        general_kept=1 - sum(others) / len(others) if others else None,
        own_expert=sum(right) / count,
        wrong_expert=sum(wrong) / count,
        coverage=(sum(right) + sum(wrong) + sum(others)) / everything,
    )
