"""What one gate training is made of: its options, the datasets' features, what claims are learnt from."""

from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from moe_pipeline.datasets.dataset import open_dataset
from moe_pipeline.embeddings.cache import EmbeddingCache
from moe_pipeline.errors import DatasetError, PipelineError, StaleCacheError
from moe_pipeline.mixture.expert import load_decoder
from moe_pipeline.mixture.gate_files import DatasetFeatures
from moe_pipeline.model.foundation import Foundation
from moe_pipeline.model.moe.claim import ClaimHead
from moe_pipeline.model.moe.gate import OODDetector, image_features
from moe_pipeline.model.moe.selector import GENERAL
from moe_pipeline.progress import Progress
from moe_pipeline.records.experts import ExpertCard
from moe_pipeline.records.foundation import View
from moe_pipeline.records.moe import Rule, Targets
from moe_pipeline.training.claims.kept_outcomes import KeptOutcomes
from moe_pipeline.training.claims.learn_claims import (
    BACKGROUND_CLICKS,
    ClaimSettings,
    LearntClaims,
    learn_claims,
)
from moe_pipeline.training.claims.panel import Panel
from moe_pipeline.training.claims.prompted_images import DatasetPrompts
from moe_pipeline.training.claims.scan_features import scan_features
from moe_pipeline.training.gate.features import PromptFeatures, collect_features
from moe_pipeline.training.gate.fit import GateSettings, fit_ood_detector
from moe_pipeline.training.gate.synthetic_negatives import background_features
from moe_pipeline.training.gate.targets import Judgement, dice_targets, object_dice
from moe_pipeline.training.interactive.synthetic_scans import SYNTHETIC
from moe_pipeline.training.planned import PlannedDataset, cache_of, open_planned
from moe_pipeline.weights.device import open_device
from moe_pipeline.weights.load import load_foundation
from moe_pipeline.weights.store import find_foundation
from moe_pipeline.workspace import Workspace

_FEW_CASES = 20  # fewer training cases than this lend the gate their augmented copies
_SYNTHETIC_LOSS = 0.02  # nobody misses a synthetic prompt, and some of them look like anything
_BACKGROUND_LOSS = 0.05  # what lies elsewhere is not labelled: some of it is what the expert segments


@dataclass(frozen=True, slots=True)
class GateOptions:
    """What the user may choose."""

    fold: int = 0
    """The fold the experts were trained on."""
    device: str = "cpu"
    """Where to encode and to draw prompts; the gate itself is trained on the CPU."""
    synthetic: int = 160
    """Synthetic volumes that belong to the general expert, besides the general datasets; 0 for none."""
    background_clicks: bool = True
    """Whether clicks on unlabelled places of the experts' own images belong to the general expert, too."""
    rule: Rule = "moe"
    """"paper": targets by dataset, no OOD detectors, synthetic volumes, background clicks, noise on the features, and
    no temperature."""
    targets: Targets = "dataset"
    """Which output should answer a training prompt: its dataset's expert, or whoever segments the object better."""
    margin: float = 0.02
    """Dice by which the expert must be better than the general one, for the targets "dice"."""
    settings: GateSettings = field(default_factory=GateSettings)
    """Of gate and OOD detectors."""
    claims: ClaimSettings = field(default_factory=ClaimSettings)
    """When experts may answer; not looked at by the paper's rule."""

    def effective(self) -> "GateOptions":
        """The same with the consequences of the rule.

        Raises:
            PipelineError: if the other options contradict the rule.
        """
        if self.rule == "moe":
            return self
        if self.targets != "dataset":
            raise PipelineError("the paper's rule has targets by dataset; leave out --targets, or --rule paper")
        settings = replace(
            self.settings, out_of_distribution=False, calibrated=False, feature_noise=0.0, prompt_noise=0.0
        )
        return replace(self, synthetic=0, background_clicks=False, settings=settings)


@dataclass(frozen=True, slots=True)
class GateRun:
    """What all datasets of one gate training share."""

    place: Workspace
    """The workspace."""
    foundation: Foundation
    """On the device; loaded once."""
    foundation_sha256: str
    """Of its weights."""
    view: View
    """Of the gate."""
    options: GateOptions
    """What the user chose."""
    progress: Progress
    """Told after each case, batch and step."""

    @classmethod
    def open(cls, place: Workspace, name: str, view: View, options: GateOptions, progress: Progress) -> "GateRun":
        """Load the foundation.

        Raises:
            CheckpointError: if its weights are missing or damaged.
        """
        stored = find_foundation(name, place.weights)
        foundation = load_foundation(name, device=options.device, weights_root=place.weights)
        return cls(place, foundation, stored.card.weights_sha256, view, options, progress)

    @property
    def device(self) -> torch.device:
        """Where to encode and to draw prompts."""
        return open_device(self.options.device)

    def open_dataset(self, folder: Path, fold: int) -> PlannedDataset:
        """A planned dataset, with this run's foundation where it was planned for it."""
        known = (self.foundation_sha256, self.foundation)
        return open_planned(self.place, open_dataset(folder), fold, self.options.device, known)

    def cache(self, planned: PlannedDataset, view: View, *, augmented: bool) -> EmbeddingCache:
        """A dataset's embeddings in one view."""
        device = self.options.device
        return cache_of(self.place, planned, view, device, augmented=augmented, progress=self.progress)


def prompts_of(planned: PlannedDataset, output: int) -> DatasetPrompts:
    """Where prompts for claims are drawn from; on the validation cases of general datasets nothing is learnt."""
    plan, fold = planned.plan, planned.fold
    everything = fold.train if output == GENERAL else (*fold.validation, *fold.train)
    return DatasetPrompts(planned.raw, output, fold.validation, everything, tuple(sorted(plan.classes)), plan.channel)


def own_detector(run: GateRun, planned: PlannedDataset) -> OODDetector:
    """The OOD detector of a dataset's expert in its own view, from the crops that the expert was trained on."""
    cache = run.cache(planned, planned.plan.view, augmented=True)
    width, fold = planned.foundation.embedding_width, planned.fold
    parts = []
    for cases in (fold.train, fold.validation):
        numbers = cache.of_cases(cases, augmented=True)
        rows = [image_features(cache.load(number).embedding[None], width) for number in numbers]
        parts.append((torch.cat(rows), tuple(cache.case_of(number) for number in numbers)))
    (train, train_cases), (validation, _) = parts
    return fit_ood_detector(train, validation, train_cases, run.options.settings)


def claims_of(run: GateRun, panel: Panel, drawn: list[DatasetPrompts], prior: ClaimHead | None = None) -> LearntClaims:
    """Claims of a panel of experts.

    Args:
        run: keeps the features of synthetic scans in its workspace.
        panel: the experts behind their gate.
        drawn: their datasets, and general ones.
        prior: of a model that an expert is added to.
    """
    claims, sha256, folder = run.options.claims, run.foundation_sha256, run.place.embeddings(SYNTHETIC)
    features = scan_features(claims.scans, panel.view, run.foundation, sha256, folder, panel.device, run.progress)
    kept = KeptOutcomes.of(panel, folder / "claims")
    return learn_claims(panel, drawn, features, claims, kept, prior, run.progress)


def dataset_features(
    run: GateRun, planned: PlannedDataset, card: ExpertCard | None, output: int
) -> tuple[list[DatasetFeatures], dict[str, float]]:
    """Gate features of one dataset's prompts in the gate's view, with their targets.

    Args:
        run: of the gate.
        planned: the dataset.
        card: of its expert; None for a general dataset.
        output: it belongs to.

    Returns:
        The features, and those of background clicks in an expert's images, which belong to the general expert; and by
        its name the share of its objects that its expert segments better, if that was asked for.
    """
    shared = card is not None and run.view == planned.plan.view  # the expert's own cache, copies and all
    augmented = shared or len(planned.fold.train) < _FEW_CASES
    cache = run.cache(planned, run.view, augmented=augmented)
    train, validation = (
        _prompts(run, planned, cache, cases, share)
        for cases, share in ((planned.fold.train, 1.0), (planned.fold.validation, 0.25))
    )
    plain = DatasetFeatures(planned.plan.dataset, output, train.rows, validation.rows, train_cases=train.cases)
    asked = card is not None and run.options.background_clicks
    others = _background_clicks(run, planned, cache) if asked else []
    if card is None or run.options.targets == "dataset":
        return [plain, *others], {}
    better = _judge(run, planned, card, cache).better(run.options.margin)
    judged = replace(
        plain,
        train_targets=dice_targets(train.objects, better, output),
        validation_targets=dice_targets(validation.objects, better, output),
    )
    return [judged, *others], {plain.name: sum(better.values()) / max(1, len(better))}


def check_planned(planned: PlannedDataset, model: ExpertCard, card: ExpertCard | None, fold: int) -> None:
    """Compare a dataset's plan with the model it joins.

    Args:
        planned: the dataset.
        model: card of an expert of the model.
        card: of the dataset's own expert, if it has one.
        fold: whose validation cases the gate is to learn from; the expert must not have seen them.

    Raises:
        StaleCacheError: if foundation, plan or fold are not those of the expert.
        DatasetError: if it looks at another channel.
    """
    if planned.foundation_sha256 != model.foundation_sha256:
        raise StaleCacheError(
            f"{planned.plan.dataset} is planned for the foundation {planned.plan.foundation} "
            f"({planned.foundation_sha256[:12]}), the expert {model.dataset} was trained on "
            f"{model.foundation_sha256[:12]}; plan and finetune both again with the same foundation"
        )
    if planned.plan.channel != model.channel:
        raise DatasetError(
            f"{planned.plan.dataset}: planned for channel {planned.plan.channel}, {model.dataset} for channel "
            f"{model.channel}; a model looks at one channel: edit the plan and finetune again"
        )
    if card is not None and card.fold != fold:
        raise StaleCacheError(
            f"expert {card.dataset} was trained on fold {card.fold}, the gate is asked for fold {fold}; "
            f"give --fold {card.fold}, or finetune it on fold {fold}"
        )
    if card is not None and card.plan_sha256 != planned.plan.sha256():
        raise StaleCacheError(
            f"expert {card.dataset} was made by the plan {card.plan_sha256[:12]}, plan.json is now "
            f"{planned.plan.sha256()[:12]}; run `moe finetune {card.dataset}` with --continue if only cases were added "
            "since, else with --overwrite"
        )


def _prompts(
    run: GateRun,
    planned: PlannedDataset,
    cache: EmbeddingCache,
    cases: tuple[str, ...],
    share: float,
    *,
    background_clicks: bool = False,
) -> PromptFeatures:
    numbers = cache.of_cases(cases, augmented=len(cases) < _FEW_CASES)
    if not numbers:
        raise DatasetError(f"{planned.plan.dataset}: no crop of {len(cases)} cases holds a class; check the splits")
    settings = run.options.settings
    limit = int(settings.prompts_per_dataset * share)
    return collect_features(
        cache,
        numbers,
        limit,
        run.foundation,
        settings.seed,
        run.device,
        run.progress,
        background_clicks=background_clicks,
    )


def _background_clicks(run: GateRun, planned: PlannedDataset, cache: EmbeddingCache) -> list[DatasetFeatures]:
    """Prompts on unlabelled places of an expert's images; none where its objects fill the crops."""
    train, validation = (
        _prompts(run, planned, cache, cases, share, background_clicks=True).rows
        for cases, share in ((planned.fold.train, 0.5), (planned.fold.validation, 0.25))
    )
    if not (len(train) and len(validation)):
        return []
    name = f"{planned.plan.dataset}{BACKGROUND_CLICKS}"
    return [DatasetFeatures(name, GENERAL, train, validation, may_lose=_BACKGROUND_LOSS)]


def _judge(run: GateRun, planned: PlannedDataset, card: ExpertCard, cache: EmbeddingCache) -> Judgement:
    """Both decoders on the dataset's objects, each in its own view."""
    decoder = load_decoder(run.place.expert(card.dataset, card.fold), card, run.foundation)
    own = run.cache(planned, planned.plan.view, augmented=True)
    cases, seed = (*planned.fold.train, *planned.fold.validation), run.options.settings.seed
    general, expert = (
        object_dice(embeddings, cases, run.foundation, answers, seed, run.device, run.progress)
        for embeddings, answers in ((cache, run.foundation.decoder), (own, decoder))
    )
    return Judgement(general, expert)


def synthetic_features(run: GateRun) -> DatasetFeatures:
    """Prompts on synthetic volumes, which belong to the general expert."""
    folder, volumes = run.place.embeddings(SYNTHETIC), run.options.synthetic
    rows = background_features(
        run.foundation, run.foundation_sha256, run.view, volumes, folder, run.device, run.progress
    )
    held_out = len(rows) // 4
    return DatasetFeatures(SYNTHETIC, GENERAL, rows[held_out:], rows[:held_out], may_lose=_SYNTHETIC_LOSS)
