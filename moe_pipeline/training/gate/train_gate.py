"""From experts to a model folder: features of all datasets, gate, OOD detectors."""

import time
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from moe_pipeline.datasets.dataset import open_dataset
from moe_pipeline.embeddings.cache import EmbeddingCache
from moe_pipeline.errors import DatasetError, PipelineError, StaleCacheError
from moe_pipeline.mixture.expert import find_expert, load_decoder
from moe_pipeline.mixture.folder import FinishedGate, check_replaceable, save_model
from moe_pipeline.mixture.gate_files import DatasetFeatures
from moe_pipeline.model.moe.selector import GENERAL
from moe_pipeline.progress import Progress, silent
from moe_pipeline.records.experts import ExpertCard
from moe_pipeline.records.foundation import View
from moe_pipeline.records.moe import GateCard, Rule, Targets
from moe_pipeline.training.engine.loop import LoopSettings
from moe_pipeline.training.gate.features import PromptFeatures, collect_features
from moe_pipeline.training.gate.fit import GateSettings, fit_gate
from moe_pipeline.training.gate.report_card import gate_card
from moe_pipeline.training.gate.synthetic_negatives import NAME, background_features
from moe_pipeline.training.gate.targets import Judgement, dice_targets, object_dice
from moe_pipeline.training.gate.threshold import choose_tau, set_priors
from moe_pipeline.training.planned import PlannedDataset, cache_of, open_planned
from moe_pipeline.weights.device import open_device
from moe_pipeline.weights.store import find_foundation
from moe_pipeline.weights.training_state import remove_training_state
from moe_pipeline.workspace import Workspace

LOOP = LoopSettings(steps=600, learning_rate=1e-3, warmup_steps=50, validate_every=50, weight_decay=0.05)
"""How long and how fast a gate learns."""

BACKGROUND_CLICKS = "-background_clicks"
"""Behind a dataset's name: prompts on what is not labelled in its images."""

_FEW_CASES = 20  # fewer training cases than this lend the gate their augmented copies
_SYNTHETIC_LOSS = 0.02  # nobody misses a synthetic prompt, and some of them look like anything
_BACKGROUND_LOSS = 0.05  # what lies elsewhere is not labelled: some of it is what the expert segments
_PAPERS_TAU = 0.5  # the paper does not state its own
_LOWEST_TAU = 0.9  # nobody can show the gate all that it will be asked


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


def train_gate(
    place: Workspace,
    expert_folders: list[Path],
    general_folders: list[Path],
    options: GateOptions | None = None,
    progress: Progress = silent,
) -> GateCard:
    """Train the gate over the experts of some datasets and write the model folder.

    All prompts are seen in the foundation's own view, because there the decision is made at prediction.

    Args:
        place: the workspace.
        expert_folders: raw datasets whose experts join, in the order of the gate's outputs.
        general_folders: planned raw datasets whose prompts belong to the general expert; may be empty.
        options: see there.
        progress: told after each case, batch and step.

    Raises:
        DatasetError: if no expert is named, or a dataset is named twice.
        PipelineError: if options contradict each other, or the workspace's model holds experts of its own.
        RecordError: if a dataset has no plan or no expert.
        StaleCacheError: if experts were trained on different foundations.
    """
    options, began = (options or GateOptions()).effective(), time.monotonic()
    check_replaceable(place.model)
    cards = _expert_cards(place, expert_folders, general_folders, options)
    view = _common_view(place, cards)
    features: list[DatasetFeatures] = []
    better: dict[str, float] = {}
    for position, folder in enumerate((*expert_folders, *general_folders)):
        card = cards[position] if position < len(cards) else None
        planned = open_planned(place, open_dataset(folder), options.fold, options.device)
        check_planned(planned, cards[0], card, options.fold)
        output = position + 1 if card else GENERAL
        found, share = dataset_features(place, planned, card, output, view, options, progress)
        features += found
        better |= share
    if options.synthetic:
        features.append(_synthetic(place, planned, view, options, progress))
    training = place.root / "gate_training"
    remove_training_state(training / "checkpoint.safetensors")  # seconds of work: always anew
    trained = fit_gate(features, len(cards), options.settings, LOOP, training, progress)
    general = [d for d in features if d.output == GENERAL]
    if options.rule != "paper":
        set_priors(trained.router, general)
    tau = _PAPERS_TAU if options.rule == "paper" else choose_tau(trained.router, general, _LOWEST_TAU)
    finished = FinishedGate(trained, tau, features, ("general", *(card.dataset for card in cards)))
    described = gate_card(finished, options.settings).model_copy(
        update={"rule": options.rule, "targets": options.targets, "margin": options.margin, "better_expert": better}
    )
    return save_model(place, cards, view, finished, described, asdict(options), time.monotonic() - began)


def dataset_features(
    place: Workspace,
    planned: PlannedDataset,
    card: ExpertCard | None,
    output: int,
    view: View,
    options: GateOptions,
    progress: Progress = silent,
) -> tuple[list[DatasetFeatures], dict[str, float]]:
    """Gate features of one dataset's prompts in the gate's view, with their targets.

    Args:
        place: the workspace.
        planned: the dataset.
        card: of its expert; None for a general dataset.
        output: it belongs to.
        view: of the gate.
        options: of the gate.
        progress: told after each case and batch.

    Returns:
        The features, and those of background clicks in an expert's images, which belong to the general expert; and by
        its name the share of its objects that its expert segments better, if that was asked for.
    """
    shared = card is not None and view == planned.plan.view  # the expert's own cache, copies and all
    augmented = shared or len(planned.fold.train) < _FEW_CASES
    cache = cache_of(place, planned, view, options.device, augmented=augmented, progress=progress)
    train, validation = (
        _prompts(planned, cache, cases, share, options, progress)
        for cases, share in ((planned.fold.train, 1.0), (planned.fold.validation, 0.25))
    )
    plain = DatasetFeatures(planned.plan.dataset, output, train.rows, validation.rows, train_cases=train.cases)
    others = (
        _background_clicks(planned, cache, options, progress) if card is not None and options.background_clicks else []
    )
    if card is None or options.targets == "dataset":
        return [plain, *others], {}
    better = _judge(place, planned, card, cache, options, progress).better(options.margin)
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
            f"{planned.plan.sha256()[:12]}; run `moe finetune {card.dataset} --overwrite`"
        )


def _expert_cards(
    place: Workspace, expert_folders: list[Path], general_folders: list[Path], options: GateOptions
) -> list[ExpertCard]:
    names = [folder.resolve().name for folder in (*expert_folders, *general_folders)]
    if not expert_folders or len(set(names)) < len(names):
        raise DatasetError(f"a gate needs at least one expert and each dataset once; got {', '.join(names) or 'none'}")
    if options.rule == "paper" and not general_folders:
        raise DatasetError("the paper's rule learns the general expert from data alone; name some with --general")
    return [find_expert(place, name, options.fold) for name in names[: len(expert_folders)]]


def _prompts(
    planned: PlannedDataset,
    cache: EmbeddingCache,
    cases: tuple[str, ...],
    share: float,
    options: GateOptions,
    progress: Progress,
    *,
    background_clicks: bool = False,
) -> PromptFeatures:
    numbers = cache.of_cases(cases, augmented=len(cases) < _FEW_CASES)
    if not numbers:
        raise DatasetError(f"{planned.plan.dataset}: no crop of {len(cases)} cases holds a class; check the splits")
    limit = int(options.settings.prompts_per_dataset * share)
    device = open_device(options.device)
    seed = options.settings.seed
    return collect_features(
        cache, numbers, limit, planned.foundation, seed, device, progress, background_clicks=background_clicks
    )


def _background_clicks(
    planned: PlannedDataset, cache: EmbeddingCache, options: GateOptions, progress: Progress
) -> list[DatasetFeatures]:
    """Prompts on unlabelled places of an expert's images; none where its objects fill the crops."""
    train, validation = (
        _prompts(planned, cache, cases, share, options, progress, background_clicks=True).rows
        for cases, share in ((planned.fold.train, 0.5), (planned.fold.validation, 0.25))
    )
    if not (len(train) and len(validation)):
        return []
    name = f"{planned.plan.dataset}{BACKGROUND_CLICKS}"
    return [DatasetFeatures(name, GENERAL, train, validation, may_lose=_BACKGROUND_LOSS)]


def _judge(
    place: Workspace,
    planned: PlannedDataset,
    card: ExpertCard,
    cache: EmbeddingCache,
    options: GateOptions,
    progress: Progress,
) -> Judgement:
    """Both decoders on the dataset's objects, each in its own view."""
    decoder = load_decoder(place.expert(card.dataset, card.fold), card, planned.foundation)
    own = cache_of(place, planned, planned.plan.view, options.device, augmented=True, progress=progress)
    cases, seed, device = (
        (*planned.fold.train, *planned.fold.validation),
        options.settings.seed,
        open_device(options.device),
    )
    general = object_dice(cache, cases, planned.foundation, planned.foundation.decoder, seed, device, progress)
    return Judgement(general, object_dice(own, cases, planned.foundation, decoder, seed, device, progress))


def _synthetic(
    place: Workspace, planned: PlannedDataset, view: View, options: GateOptions, progress: Progress
) -> DatasetFeatures:
    folder, device = place.embeddings(NAME), open_device(options.device)
    rows = background_features(
        planned.foundation, planned.foundation_sha256, view, options.synthetic, folder, device, progress
    )
    held_out = len(rows) // 4
    return DatasetFeatures(NAME, GENERAL, rows[held_out:], rows[:held_out], may_lose=_SYNTHETIC_LOSS)


def _common_view(place: Workspace, cards: list[ExpertCard]) -> View:
    for card in cards[1:]:
        if card.foundation_sha256 != cards[0].foundation_sha256:
            raise StaleCacheError(
                f"expert {card.dataset} was trained on the foundation {card.foundation} "
                f"({card.foundation_sha256[:12]}), {cards[0].dataset} on {cards[0].foundation} "
                f"({cards[0].foundation_sha256[:12]}); experts of one model share one foundation: "
                f"run `moe finetune {card.dataset} --overwrite`"
            )
    return find_foundation(cards[0].foundation, place.weights).card.view
