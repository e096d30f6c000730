"""The one training loop: foundation, experts, prompters and gate differ only in their task."""

import csv
import io
import logging
import math
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn

from moe_pipeline.errors import PipelineError, StaleCacheError
from moe_pipeline.files import write_text
from moe_pipeline.progress import Progress, silent
from moe_pipeline.training.curve import draw_learning_curve
from moe_pipeline.training.ema import WeightAverage
from moe_pipeline.weights.training_state import load_training_state, save_training_state

_log = logging.getLogger(__name__)

StoppedBy = Literal["steps", "time", "patience", "interrupt"]


class InterruptedRunError(PipelineError):
    """Ctrl-C ended a run that can be continued."""

    def __init__(self, folder: Path, step: int) -> None:
        super().__init__(f"{folder}: interrupted after step {step}; run the same command again to go on")


@dataclass(frozen=True, slots=True)
class LoopSettings:
    """How long and how fast to learn."""

    steps: int
    """Optimiser steps at most."""
    learning_rate: float
    """Peak of the schedule: linear warm-up, then cosine to 2 % of it."""
    warmup_steps: int
    """Steps of the warm-up."""
    validate_every: int
    """Steps between validations; a checkpoint is written at each."""
    patience: int | None = None
    """Stop after so many validations without a better score."""
    max_minutes: float | None = None
    """Stop after this time, all resumed parts together; the schedule then follows the clock if that is ahead."""
    weight_decay: float = 0.01
    """Of AdamW, on matrices only."""
    ema_decay: float = 0.99
    """Of the average that is validated and kept."""
    gradient_clip: float = 1.0
    """Largest norm of the gradient."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """bf16 runs the forward pass under autocast."""


class Task(Protocol):
    """What the loop trains. Step `n` must always see the same data: then a resumed run equals an undisturbed one."""

    @property
    def identity(self) -> str:
        """Hash of everything the outcome depends on besides the settings; a checkpoint of another task is refused."""

    @property
    def module(self) -> nn.Module:
        """Holds the trained weights; frozen parameters stay untouched."""

    def loss(self, step: int) -> Tensor:
        """Scalar to go backward from, drawn from the step number alone."""

    def validate(self) -> dict[str, float]:
        """Columns for the log; "score" is maximised."""


@dataclass(frozen=True, slots=True)
class LoopResult:
    """How a run ended."""

    best: dict[str, Tensor]
    """Averaged weights of the best validation, by parameter name."""
    best_step: int
    best_score: float
    steps: int
    seconds: float
    stopped_by: StoppedBy
    rows: list[dict[str, float]]
    """The log: step, seconds, loss and the task's columns of each validation."""


@dataclass(slots=True)
class _State:
    """What a checkpoint keeps besides tensors."""

    step: int = 0
    seconds: float = 0.0
    best_step: int = 0
    best_score: float = -math.inf
    stale: int = 0
    ema_updates: int = 0
    loss: float = 0.0
    rows: list[dict[str, float]] = field(default_factory=list)


@dataclass(slots=True)
class _Run:
    """Everything that changes while the loop runs."""

    task: Task
    settings: LoopSettings
    optimizer: torch.optim.AdamW
    average: WeightAverage
    best: dict[str, Tensor]
    state: _State

    @property
    def identity(self) -> str:
        return f"{self.task.identity}/{_schedule_of(self.settings)}"


def run_loop(
    task: Task, settings: LoopSettings, folder: Path, device: torch.device, progress: Progress = silent
) -> LoopResult:
    """Train until a limit is met; continue from `folder`/checkpoint.safetensors if it is there.

    A first Ctrl-C finishes the step, saves and raises; a second one stops at once.
    Without a time limit, and on one device, stopping and resuming at any point gives the same weights bit for bit.

    Args:
        task: what to train.
        settings: for how long.
        folder: for the checkpoint, log.csv and curve.png.
        device: where the task's tensors live (chooses the autocast).
        progress: told after each step.

    Raises:
        InterruptedRunError: after Ctrl-C; the checkpoint is saved, and nobody can take the result for a finished one.
        StaleCacheError: if the checkpoint belongs to another task or other settings.
    """
    folder.mkdir(parents=True, exist_ok=True)
    average = WeightAverage(task.module, settings.ema_decay)
    best = {name: tensor.clone() for name, tensor in average.tensors.items()}
    run = _Run(task, settings, _optimizer(task.module, settings), average, best, _State())
    checkpoint = folder / "checkpoint.safetensors"
    if checkpoint.is_file():
        _resume(run, checkpoint)
        _log.info("%s: resumed at step %d", folder, run.state.step)
    state = run.state
    with _graceful_interrupt() as interrupted:
        began = time.monotonic() - state.seconds
        while not (stopped_by := _limit_met(run, interrupted.is_set())):
            _step(run, device)
            state.seconds = time.monotonic() - began
            progress("training", *_share_done(run))
            if state.step % settings.validate_every == 0 or state.step == settings.steps:
                _validate(run, folder)
                state.seconds = time.monotonic() - began
                _save(run, checkpoint)
        if not state.rows and stopped_by != "interrupt":  # the limit came before the first validation
            _validate(run, folder)
        if stopped_by in ("interrupt", "time"):
            _save(run, checkpoint)
    if stopped_by == "interrupt":
        raise InterruptedRunError(folder, state.step)
    return LoopResult(best, state.best_step, state.best_score, state.step, state.seconds, stopped_by, list(state.rows))


def _optimizer(module: nn.Module, settings: LoopSettings) -> torch.optim.AdamW:
    trained = [p for p in module.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": settings.weight_decay},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=settings.learning_rate)


def _step(run: _Run, device: torch.device) -> None:
    settings, parameters = run.settings, [p for group in run.optimizer.param_groups for p in group["params"]]
    for group in run.optimizer.param_groups:
        group["lr"] = settings.learning_rate * _schedule(run)
    run.optimizer.zero_grad(set_to_none=True)
    with torch.autocast(device.type, dtype=torch.bfloat16, enabled=settings.precision == "bf16"):
        loss = run.task.loss(run.state.step)
    loss.backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(parameters, settings.gradient_clip)
    run.optimizer.step()
    run.average.update(run.task.module)
    run.state.loss = float(loss.detach())
    run.state.step += 1


def _schedule(run: _Run) -> float:
    warm = min(1.0, (run.state.step + 1) / max(1, run.settings.warmup_steps))
    done, total = _share_done(run)
    return warm * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(1.0, done / total))))


def _share_done(run: _Run) -> tuple[float, float]:
    """Progress in steps, or in the time limit's share of the steps where the clock is ahead."""
    settings, by_clock = run.settings, 0.0
    if settings.max_minutes is not None:
        by_clock = settings.steps * run.state.seconds / (60 * settings.max_minutes)
    return min(max(run.state.step, by_clock), settings.steps), settings.steps


def _limit_met(run: _Run, interrupted: bool) -> StoppedBy | None:
    state, settings = run.state, run.settings
    if state.step >= settings.steps:
        return "steps"
    if settings.patience is not None and state.stale >= settings.patience:
        return "patience"
    if settings.max_minutes is not None and state.seconds >= 60 * settings.max_minutes:
        return "time"
    return "interrupt" if interrupted else None


@torch.no_grad()
def _validate(run: _Run, folder: Path) -> None:
    state = run.state
    with run.average.applied(run.task.module):
        columns = run.task.validate()
    state.rows.append({"step": state.step, "seconds": round(state.seconds, 1), "loss": state.loss, **columns})
    state.stale += 1
    if columns["score"] > state.best_score:
        state.best_score, state.best_step, state.stale = columns["score"], state.step, 0
        for name, tensor in run.average.tensors.items():
            run.best[name].copy_(tensor)
    _write_log(folder / "log.csv", state.rows)
    draw_learning_curve(state.rows, state.best_step, folder / "curve.png")


def _save(run: _Run, path: Path) -> None:
    module = run.task.module
    tensors = {f"model.{name}": p.detach() for name, p in module.named_parameters() if p.requires_grad}
    tensors |= {f"buffer.{name}": b for name, b in module.named_buffers() if name in module.state_dict()}
    tensors |= {f"ema.{name}": tensor for name, tensor in run.average.tensors.items()}
    tensors |= {f"best.{name}": tensor for name, tensor in run.best.items()}
    run.state.ema_updates = run.average.updates
    known = {name: getattr(run.state, name) for name in _State.__slots__}
    known["best_score"] = None if math.isinf(run.state.best_score) else run.state.best_score
    save_training_state(path, tensors, run.optimizer, {"identity": run.identity, "state": known})


@torch.no_grad()
def _resume(run: _Run, path: Path) -> None:
    tensors, metadata = load_training_state(path, run.optimizer)
    if metadata["identity"] != run.identity:
        raise StaleCacheError(
            f"{path}: made by another task or other settings ({metadata['identity'][:24]}…, now {run.identity[:24]}…). "
            "Give the settings of the first run, or start anew with --overwrite."
        )
    present = dict(run.task.module.named_parameters()) | dict(run.task.module.named_buffers())
    targets = {"model": present, "buffer": present, "ema": run.average.tensors, "best": run.best}
    for key, tensor in tensors.items():
        kind, _, name = key.partition(".")
        targets[kind][name].copy_(tensor)
    known: dict[str, Any] = metadata["state"]
    if known["best_score"] is None:
        known["best_score"] = -math.inf
    run.state = _State(**known)
    run.average.updates = run.state.ema_updates


def _schedule_of(settings: LoopSettings) -> str:
    """What shapes the learning; the limits that only end it may change between two parts of a run."""
    free = {"max_minutes", "patience"}
    return ",".join(f"{name}={getattr(settings, name)}" for name in settings.__slots__ if name not in free)


def _write_log(path: Path, rows: list[dict[str, float]]) -> None:
    stream = io.StringIO()
    writer = csv.DictWriter(stream, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, stream.getvalue())


@contextmanager
def _graceful_interrupt() -> Iterator[threading.Event]:
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return

    def note(_signal: int, _frame: FrameType | None) -> None:
        if event.is_set():
            raise KeyboardInterrupt
        event.set()

    previous = signal.signal(signal.SIGINT, note)
    try:
        yield event
    finally:
        signal.signal(signal.SIGINT, previous)
