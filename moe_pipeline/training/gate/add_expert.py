"""Experts that join, leave or are renewed; nobody else's weights, data or answers are touched."""

import shutil
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from moe_pipeline.errors import DatasetError, PipelineError, StaleCacheError
from moe_pipeline.files import atomic_folder
from moe_pipeline.mixture.expert import find_expert
from moe_pipeline.mixture.folder import MODEL_CARD, FinishedGate, expert_entry, write_gate
from moe_pipeline.mixture.gate_files import (
    GATE_CARD,
    GATE_CHART,
    GATE_WEIGHTS,
    DatasetFeatures,
    TrainedGate,
    added_folder,
    features_path,
    load_features,
    load_gate,
    own_files,
    save_features,
)
from moe_pipeline.mixture.model import load_expert
from moe_pipeline.model.moe.selector import GENERAL
from moe_pipeline.progress import Progress, silent
from moe_pipeline.records.experts import ExpertCard
from moe_pipeline.records.moe import GateCard, ModelCard
from moe_pipeline.records.run import RunRecord, library_versions
from moe_pipeline.training.claims.heads import shared_part
from moe_pipeline.training.claims.learn_claims import BACKGROUND_CLICKS, ClaimSettings, described_by
from moe_pipeline.training.claims.panel import Panel
from moe_pipeline.training.gate.fit import GateSettings, fit_gate
from moe_pipeline.training.gate.gate_run import (
    GateOptions,
    GateRun,
    check_planned,
    claims_of,
    dataset_features,
    own_detector,
    prompts_of,
)
from moe_pipeline.training.gate.report_card import gate_card
from moe_pipeline.training.gate.threshold import TAUS, choose_tau
from moe_pipeline.training.gate.train_gate import LOOP
from moe_pipeline.training.interactive.synthetic_scans import SYNTHETIC
from moe_pipeline.weights.training_state import remove_training_state
from moe_pipeline.workspace import Workspace

OTHERS = "others"
"""First output of an added expert's gate: everybody who was there before, and the general expert."""

_LOWEST_THRESHOLD = 0.5  # so that no other weight can be larger


@dataclass(frozen=True, slots=True)
class ExpertSummary:
    """What `moe experts list` shows of one expert."""

    dataset: str
    classes: str
    view: str
    joined: str
    answers: float
    """Share of its validation prompts that it answers."""
    validation: str


def add_expert(
    place: Workspace,
    model: Path,
    dataset: Path,
    device: str = "cpu",
    settings: GateSettings | None = None,
    claims: ClaimSettings | None = None,
    progress: Progress = silent,
    fold: int | None = None,
) -> GateCard:
    """Let one more expert join a model, without the data of the others.

    The expert gets a gate of its own over {others, itself}, trained on its own prompts against the features that the
    model folder keeps of the others, and an OOD detector. It speaks where it claims a prompt; everywhere else the model
    answers as before, bit for bit. Its threshold is the smallest at which no kept validation prompt of the others is
    claimed. Where the model's experts have claims it gets one too: a prompt that its gate takes is answered by it only
    where its claim holds the risk, and goes to the others as before where not.

    Args:
        place: workspace with the finetuned expert.
        model: folder of the model, which is changed.
        dataset: raw folder of the expert's dataset.
        device: where to encode.
        settings: of its gate.
        claims: of its claim.
        progress: told after each case, batch and step.
        fold: which of the dataset's experts; the only one there is if None.

    Raises:
        DatasetError: if the model has this expert already, or keeps no features of the others.
        StaleCacheError: if the expert belongs to another foundation.
        RecordError: if the model, the plan or the expert is missing.
    """
    described = ModelCard.load(model / MODEL_CARD)
    name = dataset.resolve().name
    if name in {entry.dataset for entry in described.experts}:
        raise DatasetError(
            f"{model} has an expert {name} already; renew it with `moe experts update {name}`, or "
            f"`moe experts remove {name}` first"
        )
    chosen = GateOptions(device=device, settings=settings or GateSettings(), claims=claims or ClaimSettings())
    joining = _learn(place, model, described, dataset, chosen, progress, fold)
    own_files(model).check(_files_of(model, name))
    return _join(place, model, described, joining)


def update_expert(
    place: Workspace,
    model: Path,
    dataset: Path,
    device: str = "cpu",
    settings: GateSettings | None = None,
    claims: ClaimSettings | None = None,
    progress: Progress = silent,
    fold: int | None = None,
) -> GateCard:
    """Renew an expert of a model that was finetuned again, without the data of the others.

    As if it was removed and added again, but the folder changes as a whole or not at all. Where the renewed expert does
    not answer, the others answer as they do without it, bit for bit. Arguments as of `add_expert`.

    Raises:
        DatasetError: if the model has no such expert, or keeps no features of the others.
        StaleCacheError: if the expert belongs to another foundation.
        RecordError: if the model, the plan or the expert is missing.
        PipelineError: if the model changed meanwhile, or files in it were changed by others.
    """
    model = model.resolve()
    described = ModelCard.load(model / MODEL_CARD)
    name = dataset.resolve().name
    left = _without(model, described, name)
    chosen = GateOptions(device=device, settings=settings or GateSettings(), claims=claims or ClaimSettings())
    joining = _learn(place, model, left, dataset, chosen, progress, fold)

    def check(there: Path) -> None:
        own_files(there).check([MODEL_CARD, *_files_of(there, name)])
        if ModelCard.load(there / MODEL_CARD) != described:
            raise PipelineError(f"{model}: was changed while {name} was renewed; run the command again")

    with atomic_folder(model, check) as staged:
        shutil.copytree(model, staged, symlinks=True, dirs_exist_ok=True)
        remove_expert(staged, name)
        return _join(place, staged, left, joining, model)


@dataclass(frozen=True, slots=True)
class _Joining:
    """What a gate for one more expert has learnt."""

    card: ExpertCard
    trained: TrainedGate
    gate: GateCard
    features: list[DatasetFeatures]
    options: GateOptions
    seconds: float


def _learn(
    place: Workspace,
    model: Path,
    described: ModelCard,
    dataset: Path,
    options: GateOptions,
    progress: Progress,
    fold: int | None,
) -> _Joining:
    """Train the gate of an expert that is to join; nothing is written into the model."""
    began = time.monotonic()
    name = dataset.resolve().name
    others = load_features(model, _datasets_of(model, described), GENERAL)
    card = find_expert(place, name, fold)
    if card.foundation_sha256 != described.foundation_sha256:
        raise StaleCacheError(
            f"expert {name} was trained on the foundation {card.foundation} ({card.foundation_sha256[:12]}), {model} "
            f"stands on {described.foundation} ({described.foundation_sha256[:12]}); finetune it on that one"
        )
    if card.channel != described.channel:
        raise DatasetError(f"expert {name} looks at channel {card.channel}, {model} at channel {described.channel}")
    options = replace(options, fold=card.fold)
    run = GateRun.open(place, card.foundation, described.view, options, progress)
    planned = run.open_dataset(dataset, card.fold)
    check_planned(planned, card, card, card.fold)
    model_gate, _ = load_gate(model, described.gate_sha256)
    prior = shared_part(model_gate.claims) if model_gate.claims else None
    own, _ = dataset_features(run, planned, card, 1)
    if prior is not None:  # its claim decides about all else
        own, others = [d for d in own if d.output != GENERAL], [d for d in others if _is_real(d.name)] or others
    training = place.root / "gate_training"
    remove_training_state(training / "checkpoint.safetensors")
    trained = fit_gate([*own, *others], 1, options.settings, LOOP, training, progress)
    general = [d for d in (*own, *others) if d.output == GENERAL]
    threshold = choose_tau(trained.router, general, max(_LOWEST_THRESHOLD, described.tau))
    finished = FinishedGate(trained, threshold, [*own, *others], (OTHERS, name))
    written_card = gate_card(finished, options.settings)
    if prior is not None:
        experts = (load_expert(place.expert(name, card.fold), run.foundation),)
        detectors = (own_detector(run, planned),)
        panel = Panel(run.foundation, run.view, trained.router, experts, detectors, run.device, threshold)
        learnt = claims_of(run, panel, [prompts_of(planned, 1)], prior)
        written_card = described_by(written_card, learnt, finished.outputs, TAUS)
        trained = replace(trained, claims=learnt.heads)
    return _Joining(card, trained, written_card, own, options, time.monotonic() - began)


def _join(
    place: Workspace, model: Path, described: ModelCard, joining: _Joining, final: Path | None = None
) -> GateCard:
    """Write an expert's gate into a model folder, moe.json last; `final` is where the folder will be."""
    name, folder = joining.card.dataset, added_folder(model, joining.card.dataset)
    written = write_gate(folder, joining.trained, joining.gate)
    save_features(model, joining.features)
    RunRecord(
        command="experts add" if final is None else "experts update",
        versions=library_versions(),
        device=joining.options.device,
        settings=asdict(joining.options),
        inputs={name: joining.card.weights_sha256, "gate": described.gate_sha256},
        seconds=round(joining.seconds, 1),
        results={"calibration_error": written.calibration_error, "threshold": written.tau},
    ).save(folder / "run.json")
    entry = expert_entry(place, final or model, joining.card, written.weights_sha256)
    described.model_copy(update={"experts": (*described.experts, entry)}).save(
        model / MODEL_CARD
    )  # last: now it counts
    own_files(model).adopt([MODEL_CARD, *(file for file in _files_of(model, name) if (model / file).is_file())])
    return written


def _is_real(name: str) -> bool:
    """Whether kept features are of a dataset's own prompts."""
    return name != SYNTHETIC and not name.endswith(BACKGROUND_CLICKS)


def remove_expert(model: Path, name: str) -> ModelCard:
    """Take an expert out of a model; the answers of all others stay what they were, bit for bit.

    An expert that the gate was trained with leaves its output behind, whose weight goes to the general expert from now
    on. The expert's own folder in the workspace is not touched.

    Args:
        model: folder of the model, which is changed.
        name: dataset of the expert.

    Raises:
        DatasetError: if the model has no such expert; lists those there are.
    """
    changed = _without(model, ModelCard.load(model / MODEL_CARD), name)
    changed.save(model / MODEL_CARD)  # first: from now on nothing refers to the files
    own = own_files(model)
    own.adopt([MODEL_CARD])
    for file in _files_of(model, name):
        own.remove(file)
    with suppress(OSError):  # what others put there stays
        added_folder(model, name).rmdir()
    return changed


def _without(model: Path, described: ModelCard, name: str) -> ModelCard:
    """A model's card without one of its experts."""
    kept = tuple(entry for entry in described.experts if entry.dataset != name)
    if len(kept) == len(described.experts):
        known = ", ".join(entry.dataset for entry in described.experts) or "none"
        raise DatasetError(f"{model} has no expert {name}; it has: {known}")
    return described.model_copy(update={"experts": kept})


def _files_of(model: Path, name: str) -> list[str]:
    """What belongs to an expert that was added, relative to the model folder."""
    gate = [added_folder(model, name) / file for file in (GATE_WEIGHTS, GATE_CARD, GATE_CHART, "run.json")]
    features = [features_path(model, known) for known in (name, name + BACKGROUND_CLICKS)]
    return [path.relative_to(model).as_posix() for path in (*gate, *features)]


def list_experts(model: Path) -> list[ExpertSummary]:
    """The experts of a model, in the order of its outputs."""
    described = ModelCard.load(model / MODEL_CARD)
    summaries = []
    for entry in described.experts:
        card = ExpertCard.load(model / entry.folder / "expert.json")
        later = entry.added_gate_sha256 is not None
        gate = GateCard.load((added_folder(model, entry.dataset) if later else model) / "gate.json")
        scores = ", ".join(f"{k} {v:.3f}" for k, v in card.validation.items() if k.startswith("dice"))
        summaries.append(
            ExpertSummary(
                dataset=entry.dataset,
                classes=", ".join(card.classes.values()),
                view=card.view.spacing_in_words,
                joined="later" if later else "with the gate",
                answers=gate.confusion.get(entry.dataset, {}).get(entry.dataset, float("nan")),
                validation=scores,
            )
        )
    return summaries


def _datasets_of(model: Path, described: ModelCard) -> list[str]:
    """Datasets whose features are kept; those of an expert that left went with it."""
    names = [entry.dataset for entry in described.experts]
    general = GateCard.load(model / "gate.json").general_datasets
    known = {f"{name}{BACKGROUND_CLICKS}" for name in names}
    return [*(name for name in general if name in known or not name.endswith(BACKGROUND_CLICKS)), *names]
