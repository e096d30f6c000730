"""From a planned dataset to an expert: cache, train, save."""

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from moe_pipeline.embeddings.cache import CacheRequest, EmbeddingCache, build_cache
from moe_pipeline.embeddings.crops import CropRecipe
from moe_pipeline.errors import DatasetError
from moe_pipeline.model.foundation import Foundation
from moe_pipeline.planning.dataset import RawDataset, open_dataset
from moe_pipeline.planning.plan_files import load_fingerprint, load_plan, load_splits
from moe_pipeline.progress import Progress, silent
from moe_pipeline.records.experts import ExpertCard
from moe_pipeline.records.planning import Fold, Plan
from moe_pipeline.records.run import RunRecord, library_versions
from moe_pipeline.records.view import View
from moe_pipeline.training.expert import ExpertSettings, ExpertTask
from moe_pipeline.training.loop import LoopResult, LoopSettings, run_loop
from moe_pipeline.training.prompter import PrompterData, PrompterSettings, add_prompter
from moe_pipeline.weights.device import open_device
from moe_pipeline.weights.load import load_foundation
from moe_pipeline.weights.store import find_foundation
from moe_pipeline.weights.tensors import save_tensors
from moe_pipeline.workspace import Workspace


@dataclass(frozen=True, slots=True)
class FinetuneOptions:
    """What the user may choose beside the plan."""

    fold: int = 0
    """Fold held out for validation."""
    epochs: int | None = None
    """Instead of the plan's."""
    max_minutes: float | None = None
    """Training stops after this time."""
    patience: int | None = None
    """Training stops after so many validations without a better score."""
    learning_rate: float = 5e-4
    """Peak of the schedule."""
    device: str = "cpu"
    """Where to compute."""
    overwrite: bool = False
    """Start anew instead of going on with an earlier training."""
    prompter: PrompterSettings | None = field(default_factory=PrompterSettings)
    """How to train what predicts without prompts; None for not at all."""


@dataclass(frozen=True, slots=True)
class PlannedDataset:
    """A dataset with all that was decided about it."""

    raw: RawDataset
    plan: Plan
    fold: Fold
    foundation: Foundation
    foundation_sha256: str


def open_planned(place: Workspace, raw: RawDataset, fold: int, device: str) -> PlannedDataset:
    """Load plan, fold and foundation of a dataset.

    Raises:
        RecordError: if the dataset has no valid plan.
        DatasetError: if there is no such fold, or it holds nothing back.
    """
    plan, splits = load_plan(place.plans(raw.name), place.weights), load_splits(place.plans(raw.name))
    if not 0 <= fold < len(splits.folds):
        raise DatasetError(f"{raw.name}: no fold {fold}; splits.json has folds 0 to {len(splits.folds) - 1}")
    if not splits.folds[fold].validation:
        raise DatasetError(f"{raw.name}: fold {fold} holds no case back, so nothing can be validated; add cases")
    stored = find_foundation(plan.foundation, place.weights)
    foundation = load_foundation(plan.foundation, device=device, weights_root=place.weights)
    return PlannedDataset(raw, plan, splits.folds[fold], foundation, stored.card.weights_sha256)


def cache_of(
    place: Workspace, planned: PlannedDataset, view: View, device: str, *, augmented: bool, progress: Progress = silent
) -> EmbeddingCache:
    """The embedding cache of one fold's cases in one view, built as far as it is missing.

    Args:
        place: the workspace.
        planned: dataset, plan and fold.
        view: the plan's for an expert, the foundation's for the gate.
        device: where to encode.
        augmented: whether training cases get their augmented copies.
        progress: told after each case.
    """
    plan = planned.plan
    ids = (*planned.fold.train, *planned.fold.validation)
    copies = plan.copies_per_case if augmented else 1
    request = CacheRequest(
        dataset=plan.dataset,
        cases=tuple(planned.raw.case(case_id) for case_id in ids),
        recipe=CropRecipe(view, plan.crops_per_case, plan.class_weights, plan.mirror_axes),
        copies={**dict.fromkeys(planned.fold.train, copies), **dict.fromkeys(planned.fold.validation, 1)},
        channel=plan.channel,
        foundation=plan.foundation,
        foundation_sha256=planned.foundation_sha256,
        plan_sha256=plan.sha256(),
        seed=plan.seed,
    )
    folder = place.embeddings(plan.dataset) / f"{view.spacing_mm:g}mm_{view.size_voxels}"
    return build_cache(request, planned.foundation, folder, open_device(device), progress)


def finetune(
    place: Workspace, folder: Path, options: FinetuneOptions | None = None, progress: Progress = silent
) -> ExpertCard:
    """Train the expert of one dataset and save it to the workspace.

    Run again after an interruption, it continues; run again after its end, it only checks.

    Args:
        place: the workspace.
        folder: the raw dataset.
        options: what differs from the plan.
        progress: told after each case and step.

    Raises:
        PipelineError: if dataset, plan, foundation or an older checkpoint do not fit, or Ctrl-C ended the training.
        DatasetError: if the fold has nothing to train on or to validate with.
    """
    options = options or FinetuneOptions()
    planned = open_planned(place, open_dataset(folder), options.fold, options.device)
    plan = planned.plan
    cache = cache_of(place, planned, plan.view, options.device, augmented=True, progress=progress)
    settings = ExpertSettings(batch_size=plan.batch_size, seed=plan.seed)
    train, validation = list(planned.fold.train), list(planned.fold.validation)
    device = open_device(options.device)
    task = ExpertTask(planned.foundation, cache, train, validation, settings, device)
    _check_prompts(task, plan, options.fold)
    out = place.expert(plan.dataset)
    if options.overwrite:
        (out / "checkpoint.safetensors").unlink(missing_ok=True)
    try:
        general = task.measure(planned.foundation.mask_decoder)
        result = run_loop(task, loop_settings(plan, options), out, device, progress)
    finally:
        task.close()
    card = _save(out, planned, options, settings, task, result, general, cache.manifest.seconds)
    return _with_prompter(place, planned, cache, card, options, progress)


def _with_prompter(
    place: Workspace,
    planned: PlannedDataset,
    cache: EmbeddingCache,
    card: ExpertCard,
    options: FinetuneOptions,
    progress: Progress,
) -> ExpertCard:
    out = place.expert(card.dataset)
    if options.overwrite:
        (out / "prompter" / "checkpoint.safetensors").unlink(missing_ok=True)
    if options.prompter is None:
        (out / "prompter.safetensors").unlink(missing_ok=True)  # of an earlier expert
        return card
    data = PrompterData(
        raw=planned.raw,
        plan=planned.plan,
        fold=planned.fold,
        fingerprint=load_fingerprint(place.plans(card.dataset)),
        foundation=planned.foundation,
        foundation_sha256=planned.foundation_sha256,
        cache=cache,
        folder=cache.folder / "search",
        device=open_device(options.device),
    )
    return add_prompter(out, card, data, replace(options.prompter, seed=planned.plan.seed), progress)


def _check_prompts(task: ExpertTask, plan: Plan, fold: int) -> None:
    for part, prompts in (("training", task.train_numbers), ("validation", task.validation)):
        if not prompts:
            classes = ", ".join(plan.classes.values())
            raise DatasetError(f"{plan.dataset}: no {part} case of fold {fold} has any of the classes {classes}")


def loop_settings(plan: Plan, options: FinetuneOptions) -> LoopSettings:
    """The loop's settings for a plan: one validation per epoch."""
    epochs = options.epochs or plan.epochs
    return LoopSettings(
        steps=epochs * plan.steps_per_epoch,
        learning_rate=options.learning_rate,
        warmup_steps=min(50, plan.steps_per_epoch),
        validate_every=plan.steps_per_epoch,
        patience=options.patience,
        max_minutes=options.max_minutes,
    )


def _save(
    out: Path,
    planned: PlannedDataset,
    options: FinetuneOptions,
    settings: ExpertSettings,
    task: ExpertTask,
    result: LoopResult,
    general: dict[str, float],
    encoding_seconds: float,
) -> ExpertCard:
    plan = planned.plan
    best = task.module.state_dict() | result.best  # buffers, if any, from the module
    row = next((r for r in result.rows if r["step"] == result.best_step), {})
    chosen: dict[str, Any] = asdict(settings) | asdict(options)
    card = ExpertCard(
        dataset=plan.dataset,
        classes=plan.classes,
        view=plan.view,
        channel=plan.channel,
        foundation=plan.foundation,
        foundation_sha256=planned.foundation_sha256,
        weights_sha256=save_tensors(out / "expert.safetensors", best, {"dataset": plan.dataset}),
        plan_sha256=plan.sha256(),
        fold=options.fold,
        seed=plan.seed,
        best_step=result.best_step,
        best_score=result.best_score,
        validation={
            **{name: value for name, value in row.items() if name.startswith("dice")},
            **{f"general_{name}": value for name, value in general.items() if name.startswith("dice")},
        },
        settings=chosen | {"steps": result.steps, "stopped_by": result.stopped_by},
    )
    card.save(out / "expert.json")
    RunRecord(
        command="finetune",
        versions=library_versions(),
        device=options.device,
        settings=chosen,
        inputs={"plan": card.plan_sha256, "foundation": card.foundation_sha256, "dataset": plan.dataset_sha256},
        seconds=round(result.seconds + encoding_seconds, 1),
        results={"encoding_seconds": encoding_seconds, "training_seconds": round(result.seconds, 1)},
        files=["expert.safetensors", "expert.json", "log.csv", "curve.png"],
    ).save(out / "run.json")
    return card
