"""What finetuning an expert and finetuning a whole network have in common."""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

from moe_pipeline.datasets.dataset import open_dataset
from moe_pipeline.embeddings.cache import EmbeddingCache
from moe_pipeline.errors import DatasetError, PipelineError
from moe_pipeline.journal.lock import release_lock, take_lock
from moe_pipeline.paths import LOG_CSV, RUN_JSON, ExpertFolder
from moe_pipeline.planning.plan_files import load_fingerprint, load_splits
from moe_pipeline.planning.splits import classes_not_learnt, not_learnt_warning
from moe_pipeline.progress import Progress, silent
from moe_pipeline.records.planning import Plan
from moe_pipeline.records.run import RunRecord, library_versions
from moe_pipeline.training.click_proposer.train import ClickProposerSettings
from moe_pipeline.training.engine.checkpoint import is_run_of
from moe_pipeline.training.engine.loop import LoopResult, LoopSettings, RunLogger, run_loop
from moe_pipeline.training.engine.processes import Processes, open_processes
from moe_pipeline.training.engine.task import Precision, check_positive
from moe_pipeline.training.expert.added_cases import take_in_added
from moe_pipeline.training.expert.rehearsal import RehearsedPrompts
from moe_pipeline.training.expert.task import ExpertSettings, ExpertTask
from moe_pipeline.training.planned import PlannedDataset, cache_of, names_of_classes, open_planned
from moe_pipeline.weights.device import multiplies_bf16
from moe_pipeline.weights.training_state import remove_training_state
from moe_pipeline.workspace import Workspace

LOCK = "training.lock"
"""File in the folder that a training writes to, while it does."""

_log = logging.getLogger(__name__)
_Task = TypeVar("_Task", bound=ExpertTask)


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
    learning_rate: float | None = None
    """Peak of the schedule; 1.5e-3 for an expert, 1e-4 for a whole network if None."""
    rehearsal: float = 0.2
    """Prompts on synthetic scans beside each of an expert's own, so that it harms little if asked by mistake."""
    device: str = "cpu"
    """Where to compute."""
    devices: int = 1
    """Processes that share each batch, each on its own device of that kind."""
    precision: Precision | Literal["auto"] = "auto"
    """bf16 runs the forward pass under autocast; auto does where the device multiplies it faster."""
    overwrite: bool = False
    """Start anew instead of going on with an earlier training."""
    continued: bool = False
    """Take in cases that were added since, and go on from the expert's weights with a fresh optimiser."""
    click_proposer: ClickProposerSettings | None = field(default_factory=ClickProposerSettings)
    """How to train what predicts without prompts; None for not at all."""

    def __post_init__(self) -> None:
        check_positive(
            epochs=self.epochs,
            max_minutes=self.max_minutes,
            patience=self.patience,
            learning_rate=self.learning_rate,
            devices=self.devices,
        )
        if not 0 <= self.rehearsal <= 1:
            raise PipelineError(
                f"--rehearsal is a number of prompts beside each own one, from 0 to 1, got {self.rehearsal:g}"
            )
        if self.continued and self.overwrite:
            raise PipelineError("--continue goes on from the expert that is there, --overwrite begins anew; give one")


@dataclass(frozen=True, slots=True)
class FinetuneSession:
    """One dataset, ready to be learnt from by one or several processes."""

    place: Workspace
    """The workspace."""
    planned: PlannedDataset
    """Dataset, plan, fold and foundation."""
    out: Path
    """Where what is learnt is written; no other process writes there."""
    cache: EmbeddingCache
    """Crops of the fold."""
    options: FinetuneOptions
    """What the user chose."""
    processes: Processes
    """Who trains together."""
    progress: Progress
    """Told after each case and step; silent in all processes but the first."""
    loggers: Sequence[RunLogger] = ()
    """Told of each validation, beside log.csv and curve.png."""


@dataclass(frozen=True, slots=True)
class Trained:
    """How a training ended."""

    result: LoopResult
    """The weights of the best validation, and the log."""
    validation: dict[str, float]
    """Dice columns at the best step, and the general expert's on the same prompts as general_*."""
    settings: dict[str, Any]
    """All settings."""


@contextmanager
def open_session(
    place: Workspace,
    folder: Path,
    options: FinetuneOptions,
    progress: Progress,
    loggers: Sequence[RunLogger],
    *,
    encoded: bool,
) -> Iterator[FinetuneSession]:
    """Load what was planned, lock the folder of the fold, and build the cache as far as it is missing.

    Args:
        place: the workspace.
        folder: the raw dataset.
        options: what differs from the plan.
        progress: told after each case.
        loggers: told of each validation.
        encoded: whether embeddings are wanted, for an expert; else images, for a whole network.

    Raises:
        LockedError: if another process trains the same fold.
        PipelineError: if dataset, plan, foundation or device are not there or do not fit.
    """
    processes = open_processes(options.device, options.devices)
    options = replace(options, devices=processes.size)  # also of those that srun or torchrun have started
    if options.precision == "auto":
        options = replace(options, precision="bf16" if multiplies_bf16(processes.device) else "fp32")
    progress = progress if processes.first else silent
    device = str(processes.device)
    if options.continued:
        if not encoded:
            raise PipelineError("--continue is for experts; a whole network (--trainable all) is trained anew")
        processes.from_first(lambda: take_in_added(place, folder, options.fold, progress))
    planned = open_planned(place, open_dataset(folder), options.fold, device)
    name, view = planned.plan.dataset, planned.plan.view
    out = (place.expert if encoded else place.sft)(name, options.fold)
    processes.from_first(lambda: _say_what_is_not_learnt(place, planned.plan, options.fold))
    processes.from_first(lambda: take_lock(out / LOCK, f"moe finetune {name} --fold {options.fold}"))
    try:
        cache = processes.from_first(
            lambda: cache_of(place, planned, view, device, augmented=True, encoded=encoded, progress=progress)
        )
        yield FinetuneSession(place, planned, out, cache, options, processes, progress, loggers)
    finally:
        if processes.first:
            release_lock(out / LOCK)


def train(
    session: FinetuneSession,
    kind: Callable[..., _Task],
    learning_rate: float,
    kernels: float = 0.0,
    rehearsed: RehearsedPrompts | None = None,
) -> tuple[_Task, Trained]:
    """Train a task of some kind on a session's cache; the checkpoint in its folder is gone on with.

    Args:
        session: see there.
        kind: of task.
        learning_rate: where the user chose none.
        kernels: by how much faster Muon moves the kernels of convolutions; 0 leaves them to AdamW.
        rehearsed: prompts that are added to each batch; none if None.

    Raises:
        PipelineError: if an older checkpoint does not fit, or Ctrl-C ended the training.
        DatasetError: if the fold has nothing to train on or to validate with.
    """
    plan, fold, options, processes = session.planned.plan, session.planned.fold, session.options, session.processes
    share = options.rehearsal if rehearsed else 0.0
    settings = ExpertSettings(batch_size=plan.batch_size, rehearsed=share, seed=plan.seed)
    out = session.out
    cases, device = (list(fold.train), list(fold.validation)), processes.device
    names = names_of_classes(session.planned, session.place)
    task = kind(session.planned.foundation, session.cache, *cases, settings, device, processes, names, rehearsed)
    try:
        _check_prompts(task, plan, options.fold)
        processes.from_first(lambda: _forget_earlier(task, options, out))
        if processes.from_first(lambda: not (out / "checkpoint.safetensors").is_file()):
            task.begin()
        general = processes.from_first(lambda: task.measure(task.general))
        loop = loop_settings(plan, options, learning_rate, kernels)
        result = run_loop(task, loop, out, device, session.progress, processes, session.loggers)
    finally:
        task.close()
    row = next((r for r in result.rows if r["step"] == result.best_step), {})
    before = result.rows[0] if options.continued else {}
    validation = {
        **{name: value for name, value in row.items() if name.startswith("dice")},
        **{f"general_{name}": value for name, value in general.items() if name.startswith("dice")},
        **{f"before_{name}": value for name, value in before.items() if name.startswith("dice")},
    }
    chosen = asdict(settings) | asdict(replace(options, learning_rate=loop.learning_rate))
    return task, Trained(result, validation, chosen | {"steps": result.steps, "stopped_by": result.stopped_by})


def save_run_record(session: FinetuneSession, trained: Trained, files: list[str]) -> None:
    """Write run.json of a finished training."""
    plan, encoding = session.planned.plan, session.cache.manifest.seconds
    foundation = session.planned.foundation_sha256
    RunRecord(
        command="finetune",
        versions=library_versions(),
        device=session.options.device,
        settings=trained.settings,
        inputs={"plan": plan.sha256(), "foundation": foundation, "dataset": plan.dataset_sha256},
        seconds=round(trained.result.seconds + encoding, 1),
        results={"encoding_seconds": encoding, "training_seconds": round(trained.result.seconds, 1)},
        files=[*files, LOG_CSV, "curve.png"],
    ).save(session.out / RUN_JSON)


def loop_settings(plan: Plan, options: FinetuneOptions, learning_rate: float, kernels: float = 0.0) -> LoopSettings:
    """The loop's settings for a plan, one validation per epoch; learning rate and kernels as of `train`."""
    epochs = plan.epochs if options.epochs is None else options.epochs
    learning_rate = learning_rate if options.learning_rate is None else options.learning_rate
    return LoopSettings(
        steps=epochs * plan.steps_per_epoch,
        learning_rate=learning_rate,
        kernel_rate=kernels * learning_rate,
        warmup_steps=min(50, plan.steps_per_epoch),
        validate_every=plan.steps_per_epoch,
        patience=options.patience,
        max_minutes=options.max_minutes,
        precision="bf16" if options.precision == "bf16" else "fp32",  # a session knows what auto means
        validate_first=options.continued,
    )


def _forget_earlier(task: ExpertTask, options: FinetuneOptions, out: Path) -> None:
    """Remove checkpoints of a training that this one does not go on with."""
    checkpoint = out / "checkpoint.safetensors"
    if options.overwrite or (options.continued and not is_run_of(task, checkpoint)):
        for path in (checkpoint, ExpertFolder(out).click_proposer_training / checkpoint.name):
            remove_training_state(path)


def _say_what_is_not_learnt(place: Workspace, plan: Plan, fold: int) -> None:
    folder = place.plans(plan.dataset)
    names = classes_not_learnt(load_splits(folder), fold, load_fingerprint(folder), plan.classes)
    if names:
        _log.warning(not_learnt_warning(plan.dataset, fold, names))


def _check_prompts(task: ExpertTask, plan: Plan, fold: int) -> None:
    for part, prompts in (("training", task.train_numbers), ("validation", task.validation)):
        if not prompts:
            classes = ", ".join(plan.classes.values())
            raise DatasetError(f"{plan.dataset}: no {part} case of fold {fold} has any of the classes {classes}")
