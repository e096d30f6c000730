"""From experts to a model folder: features of all datasets, gate, guards."""

import os
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from moe_pipeline.embeddings.cache import EmbeddingCache
from moe_pipeline.errors import DatasetError, StaleCacheError
from moe_pipeline.files import atomic_folder
from moe_pipeline.planning.dataset import open_dataset
from moe_pipeline.progress import Progress, silent
from moe_pipeline.records.experts import ExpertCard
from moe_pipeline.records.moe import ExpertEntry, GateCard, ModelCard
from moe_pipeline.records.run import RunRecord, library_versions
from moe_pipeline.records.view import View
from moe_pipeline.training.background import NAME, background_features
from moe_pipeline.training.finetune import PlannedDataset, cache_of, open_planned
from moe_pipeline.training.gate import (
    DatasetFeatures,
    GateSettings,
    TrainedGate,
    collect_features,
    fit_gate,
    guards_state,
)
from moe_pipeline.training.loop import LoopSettings
from moe_pipeline.weights.device import open_device
from moe_pipeline.weights.store import find_foundation
from moe_pipeline.weights.tensors import save_tensors
from moe_pipeline.workspace import Workspace

_FEW_CASES = 20  # fewer training cases than this lend the gate their augmented copies
_SYNTHETIC_LOSS = 0.02  # nobody misses a synthetic prompt, and some of them look like anything
_LOOP = LoopSettings(steps=600, learning_rate=1e-3, warmup_steps=50, validate_every=50, weight_decay=0.05)


@dataclass(frozen=True, slots=True)
class GateOptions:
    """What the user may choose."""

    fold: int = 0
    """The fold the experts were trained on."""
    device: str = "cpu"
    """Where to encode and to draw prompts; the gate itself is trained on the CPU."""
    synthetic: int = 160
    """Synthetic volumes that belong to the general expert, besides the general datasets; 0 for none."""
    settings: GateSettings = field(default_factory=GateSettings)
    """Of gate and guards."""


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
        RecordError: if a dataset has no plan or no expert.
        StaleCacheError: if experts were trained on different foundations.
    """
    options, began = options or GateOptions(), time.monotonic()
    names = [folder.resolve().name for folder in (*expert_folders, *general_folders)]
    if not expert_folders or len(set(names)) < len(names):
        raise DatasetError(f"a gate needs at least one expert and each dataset once; got {', '.join(names) or 'none'}")
    cards = [ExpertCard.load(place.expert(name) / "expert.json") for name in names[: len(expert_folders)]]
    view = _common_view(place, cards)
    features: list[DatasetFeatures] = []
    for position, folder in enumerate((*expert_folders, *general_folders)):
        planned = open_planned(place, open_dataset(folder), options.fold, options.device)
        _check_foundation(planned, cards[0])
        output = position + 1 if position < len(cards) else 0
        if output:
            _check_expert(planned, cards[position], options.fold)
        if planned.plan.channel != cards[0].channel:
            raise DatasetError(
                f"{planned.plan.dataset}: planned for channel {planned.plan.channel}, {cards[0].dataset} for channel "
                f"{cards[0].channel}; a model looks at one channel: edit the plan and finetune again"
            )
        shared = output > 0 and view == planned.plan.view  # the expert's own cache, copies and all
        augmented = shared or len(planned.fold.train) < _FEW_CASES
        cache = cache_of(place, planned, view, options.device, augmented=augmented, progress=progress)
        features.append(_features(planned, cache, output, options, progress))
    if options.synthetic:
        features.append(_synthetic(place, planned, view, options, progress))
    training = place.root / "gate_training"
    (training / "checkpoint.safetensors").unlink(missing_ok=True)  # seconds of work: always anew
    trained = fit_gate(features, len(cards), options.settings, _LOOP, training, progress)
    return _save(place, cards, view, features, trained, options, time.monotonic() - began)


def _synthetic(
    place: Workspace, planned: PlannedDataset, view: View, options: GateOptions, progress: Progress
) -> DatasetFeatures:
    folder, device = place.embeddings(NAME), open_device(options.device)
    rows = background_features(
        planned.foundation, planned.foundation_sha256, view, options.synthetic, folder, device, progress
    )
    held_out = len(rows) // 4
    return DatasetFeatures(NAME, 0, rows[held_out:], rows[:held_out], may_lose=_SYNTHETIC_LOSS)


def _features(
    planned: PlannedDataset, cache: EmbeddingCache, output: int, options: GateOptions, progress: Progress
) -> DatasetFeatures:
    parts = []
    for cases, share in ((planned.fold.train, 1.0), (planned.fold.validation, 0.25)):
        numbers = cache.of_cases(cases, augmented=len(cases) < _FEW_CASES)
        if not numbers:
            raise DatasetError(f"{planned.plan.dataset}: no crop of {len(cases)} cases holds a class; check the splits")
        limit = int(options.settings.prompts_per_dataset * share)
        seed = options.settings.seed
        parts.append(
            collect_features(cache, numbers, limit, planned.foundation, seed, open_device(options.device), progress)
        )
    return DatasetFeatures(planned.plan.dataset, output, parts[0], parts[1])


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


def _check_foundation(planned: PlannedDataset, card: ExpertCard) -> None:
    if planned.foundation_sha256 != card.foundation_sha256:
        raise StaleCacheError(
            f"{planned.plan.dataset} is planned for the foundation {planned.plan.foundation} "
            f"({planned.foundation_sha256[:12]}), the expert {card.dataset} was trained on "
            f"{card.foundation_sha256[:12]}; plan and finetune both again with the same foundation"
        )


def _check_expert(planned: PlannedDataset, card: ExpertCard, fold: int) -> None:
    """The gate's validation cases must be cases that the expert did not learn from."""
    if card.fold != fold:
        raise StaleCacheError(
            f"expert {card.dataset} was trained on fold {card.fold}, the gate is asked for fold {fold}; "
            f"give --fold {card.fold}, or finetune it on fold {fold}"
        )
    if card.plan_sha256 != planned.plan.sha256():
        raise StaleCacheError(
            f"expert {card.dataset} was made by the plan {card.plan_sha256[:12]}, plan.json is now "
            f"{planned.plan.sha256()[:12]}; run `moe finetune {card.dataset} --overwrite`"
        )


def _save(
    place: Workspace,
    cards: list[ExpertCard],
    view: View,
    features: list[DatasetFeatures],
    trained: TrainedGate,
    options: GateOptions,
    seconds: float,
) -> GateCard:
    settings: dict[str, Any] = asdict(options.settings)
    outputs = ("general", *(card.dataset for card in cards))
    tensors = {f"gate.{name}": tensor for name, tensor in trained.gate.state_dict().items()}
    with atomic_folder(place.model) as folder:
        sha256 = save_tensors(folder / "gate.safetensors", tensors | guards_state(trained.guards))
        gate_card = GateCard(
            outputs=outputs,
            width=trained.gate.config.width,
            hidden=trained.gate.config.hidden,
            guard_ranks=tuple(guard.whitener.shape[1] for guard in trained.guards),
            general_datasets=tuple(d.name for d in features if d.output == 0),
            weights_sha256=sha256,
            samples={d.name: len(d.train) for d in features},
            temperature=float(trained.gate.temperature),
            guard_percentile=options.settings.guard_percentile,
            confusion={name: {outputs[int(k)]: v for k, v in row.items()} for name, row in trained.confusion.items()},
            calibration_error=trained.calibration_error,
            tau=trained.tau,
            sweep=trained.sweep,
            seed=options.settings.seed,
        )
        gate_card.save(folder / "gate.json")
        ModelCard(
            foundation=cards[0].foundation,
            foundation_sha256=cards[0].foundation_sha256,
            view=view,
            experts=tuple(_entry(place, card) for card in cards),
            channel=cards[0].channel,
            gate_sha256=sha256,
            tau=trained.tau,
        ).save(folder / "moe.json")
        RunRecord(
            command="train-gate",
            versions=library_versions(),
            device=options.device,
            settings=settings | {"fold": options.fold, "synthetic": options.synthetic},
            inputs={card.dataset: card.weights_sha256 for card in cards},
            seconds=round(seconds, 1),
            results={"calibration_error": trained.calibration_error, "tau": trained.tau},
            files=["moe.json", "gate.json", "gate.safetensors"],
        ).save(folder / "run.json")
    return gate_card


def _entry(place: Workspace, card: ExpertCard) -> ExpertEntry:
    folder = os.path.relpath(place.expert(card.dataset), place.model)
    return ExpertEntry(dataset=card.dataset, folder=Path(folder).as_posix(), weights_sha256=card.weights_sha256)
