"""The one training loop: foundation, experts, click proposers and gate differ only in their task."""

import logging
import math
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Literal

import torch
from torch import Tensor, nn

from moe_pipeline.errors import PipelineError
from moe_pipeline.paths import LOG_CSV
from moe_pipeline.progress import Progress, silent
from moe_pipeline.training.engine.checkpoint import Run, State, resume_run, save_run
from moe_pipeline.training.engine.ema import WeightAverage
from moe_pipeline.training.engine.loggers import CsvLogger, CurveLogger, RunLogger
from moe_pipeline.training.engine.muon import Muon, kernels_of
from moe_pipeline.training.engine.processes import Processes
from moe_pipeline.training.engine.runtime import keep_freed_memory
from moe_pipeline.training.engine.task import LoopSettings, Remembering, Task

__all__ = ["InterruptedRunError", "LoopResult", "LoopSettings", "RunLogger", "Task", "run_loop"]

_log = logging.getLogger(__name__)

StoppedBy = Literal["steps", "time", "patience", "interrupt"]


class InterruptedRunError(PipelineError):
    """Ctrl-C ended a run that can be continued."""

    def __init__(self, folder: Path, step: int) -> None:
        super().__init__(f"{folder}: interrupted after step {step}; run the same command again to go on")


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


def run_loop(
    task: Task,
    settings: LoopSettings,
    folder: Path,
    device: torch.device,
    progress: Progress = silent,
    processes: Processes | None = None,
    loggers: Sequence[RunLogger] = (),
) -> LoopResult:
    """Train until a limit is met; continue from `folder`/checkpoint.safetensors if it is there.

    A first Ctrl-C finishes the step, saves and raises; a second one stops at once.
    Without a time limit, and on one device, stopping and resuming at any point gives the same weights bit for bit.
    Of several processes the first validates, decides and writes; the others have its weights bit for bit.

    Args:
        task: what to train.
        settings: for how long.
        folder: for the checkpoint, log.csv and curve.png.
        device: where the task's tensors live (chooses the autocast).
        progress: told after each step.
        processes: who trains together; this process alone if None.
        loggers: told of each validation beside log.csv and curve.png, by the first process; closed in the end.

    Raises:
        InterruptedRunError: after Ctrl-C; the checkpoint is saved, and nobody can take the result for a finished one.
        StaleCacheError: if the checkpoint belongs to another task or other settings.
    """
    processes = processes or Processes(device)
    if device.type == "cpu":
        keep_freed_memory()
    folder.mkdir(parents=True, exist_ok=True)
    average = WeightAverage(task.module, settings.ema_decay)
    best = {name: tensor.clone() for name, tensor in average.tensors.items()}
    run = Run(task, settings, _optimizers(task.module, settings), average, best, State())
    checkpoint = folder / "checkpoint.safetensors"
    if checkpoint.is_file():
        resume_run(run, checkpoint)
        _log.info("%s: resumed at step %d", folder, run.state.step)
    state = run.state
    if settings.validate_first and not state.rows:
        _validate(run, (), processes)
    told: list[RunLogger] = []
    if processes.first:
        told = [CsvLogger(folder / LOG_CSV, state.rows), CurveLogger(folder / "curve.png", state.rows), *loggers]
    with ExitStack() as open_loggers, _graceful_interrupt() as interrupted:
        for logger in told:
            open_loggers.enter_context(closing(logger))
        began = time.monotonic() - state.seconds
        while not (stopped_by := _agreed_limit(run, interrupted, processes)):
            _step(run, device, processes)
            state.seconds = time.monotonic() - began
            progress("training", *_share_done(run))
            if state.step % settings.validate_every == 0 or state.step == settings.steps:
                _validate(run, told, processes)
                state.seconds = time.monotonic() - began
                _save(run, checkpoint, processes)
        if stopped_by == "time" and (not state.rows or state.rows[-1]["step"] != state.step):
            _validate(run, told, processes)  # the last weights, for which the learning rate had fallen, count too
        if stopped_by in ("interrupt", "time"):
            _save(run, checkpoint, processes)
    if stopped_by == "interrupt":
        raise InterruptedRunError(folder, state.step)
    return LoopResult(best, state.best_step, state.best_score, state.step, state.seconds, stopped_by, list(state.rows))


def _optimizers(module: nn.Module, settings: LoopSettings) -> list[torch.optim.Optimizer]:
    """AdamW for everything, or for everything but the kernels of convolutions, which then have Muon."""
    kernels = kernels_of(module) if settings.kernel_rate else []
    known = {id(kernel) for kernel in kernels}
    others = [p for p in module.parameters() if p.requires_grad and id(p) not in known]
    groups = [
        {"params": [p for p in others if p.ndim >= 2], "weight_decay": settings.weight_decay},
        {"params": [p for p in others if p.ndim < 2], "weight_decay": 0.0},
    ]
    optimizers: list[torch.optim.Optimizer] = [torch.optim.AdamW(groups, lr=settings.learning_rate, fused=True)]
    if kernels:
        optimizers.append(Muon(kernels, settings.kernel_rate, settings.weight_decay))
    return optimizers


def _step(run: Run, device: torch.device, processes: Processes) -> None:
    settings, parameters, schedule = run.settings, [], _schedule(run)
    for optimizer in run.optimizers:
        for group in optimizer.param_groups:
            group["lr"] = optimizer.defaults["lr"] * schedule
            parameters += group["params"]
        optimizer.zero_grad(set_to_none=True)
    with torch.autocast(device.type, dtype=torch.bfloat16, enabled=settings.precision == "bf16"):
        loss = run.task.loss(run.state.step)
    loss.backward()  # type: ignore[no-untyped-call]
    loss = loss.detach()
    processes.average([loss, *(p.grad for p in parameters if p.grad is not None)])
    nn.utils.clip_grad_norm_(parameters, settings.gradient_clip)
    for optimizer in run.optimizers:
        optimizer.step()
    run.average.update(run.task.module)
    run.state.loss = float(loss)
    run.state.step += 1


def _save(run: Run, checkpoint: Path, processes: Processes) -> None:
    memory = run.task.memory() if isinstance(run.task, Remembering) else {}
    processes.from_first(lambda: save_run(run, checkpoint, memory))


def _schedule(run: Run) -> float:
    warm = min(1.0, (run.state.step + 1) / max(1, run.settings.warmup_steps))
    done, total = _share_done(run)
    return warm * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(1.0, done / total))))


def _share_done(run: Run) -> tuple[float, float]:
    """Progress in steps, or in the time limit's share of the steps where the clock is ahead."""
    settings, by_clock = run.settings, 0.0
    if settings.max_minutes is not None:
        by_clock = settings.steps * run.state.seconds / (60 * settings.max_minutes)
    return min(max(run.state.step, by_clock), settings.steps), settings.steps


def _agreed_limit(run: Run, interrupted: threading.Event, processes: Processes) -> StoppedBy | None:
    """What ends the run, by the clock of the first process, on which the schedule depends too."""
    stopped_by, run.state.seconds = processes.from_first(
        lambda: (_limit_met(run, interrupted.is_set()), run.state.seconds)
    )
    return stopped_by


def _limit_met(run: Run, interrupted: bool) -> StoppedBy | None:
    state, settings = run.state, run.settings
    if state.step >= settings.steps:
        return "steps"
    if settings.patience is not None and state.stale >= settings.patience:
        return "patience"
    if settings.max_minutes is not None and state.seconds >= 60 * settings.max_minutes:
        return "time"
    return "interrupt" if interrupted else None


@torch.no_grad()
def _validate(run: Run, loggers: Sequence[RunLogger], processes: Processes) -> None:
    state = run.state
    with run.average.applied(run.task.module):
        columns = processes.from_first(run.task.validate)
    values = {"seconds": round(state.seconds, 1), "loss": state.loss, **columns}
    state.rows.append({"step": state.step, **values})
    state.stale += 1
    if columns["score"] > state.best_score:
        state.best_score, state.best_step, state.stale = columns["score"], state.step, 0
        for name, tensor in run.average.tensors.items():
            run.best[name].copy_(tensor)
    for logger in loggers:
        logger.log(state.step, values)


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
