"""A run of the training loop, and its checkpoint."""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from moe_pipeline.errors import StaleCacheError
from moe_pipeline.training.engine.ema import WeightAverage
from moe_pipeline.training.engine.task import LoopSettings, Remembering, Task
from moe_pipeline.weights.training_state import load_training_state, save_training_state, training_state_metadata


@dataclass(slots=True)
class State:
    """What a checkpoint keeps besides tensors."""

    step: int = 0
    seconds: float = 0.0
    best_step: int = 0
    best_score: float = -math.inf
    stale: int = 0
    ema_updates: int = 0
    loss: float = math.nan
    rows: list[dict[str, float]] = field(default_factory=list)


@dataclass(slots=True)
class Run:
    """Everything that changes while the loop runs."""

    task: Task
    settings: LoopSettings
    optimizers: list[torch.optim.Optimizer]
    average: WeightAverage
    best: dict[str, Tensor]
    state: State

    @property
    def identity(self) -> str:
        """Of the task and of what shapes the learning."""
        return f"{self.task.identity}/{self.settings.identity}"


def save_run(run: Run, path: Path, memory: dict[str, Tensor]) -> None:
    """Write everything that the run needs to continue bit for bit.

    Args:
        run: to be continued.
        path: of the checkpoint.
        memory: of the task, of all processes.
    """
    module = run.task.module
    tensors = {f"model.{name}": p.detach() for name, p in module.named_parameters() if p.requires_grad}
    tensors |= {f"buffer.{name}": b for name, b in module.named_buffers() if name in module.state_dict()}
    tensors |= {f"ema.{name}": tensor for name, tensor in run.average.tensors.items()}
    tensors |= {f"best.{name}": tensor for name, tensor in run.best.items()}
    tensors |= {f"memory.{name}": tensor for name, tensor in memory.items()}
    run.state.ema_updates = run.average.updates
    known = {name: getattr(run.state, name) for name in State.__slots__}
    known["best_score"] = None if math.isinf(run.state.best_score) else run.state.best_score
    save_training_state(path, tensors, run.optimizers, {"identity": run.identity, "state": known})


@torch.no_grad()
def resume_run(run: Run, path: Path) -> None:
    """Take over what `save_run` wrote.

    Raises:
        CheckpointError: if the file is damaged.
        StaleCacheError: if it belongs to another task or other settings.
    """
    tensors, metadata = load_training_state(path, run.optimizers)
    if metadata["identity"] != run.identity:
        raise StaleCacheError(
            f"{path}: made by {_what_differs(metadata['identity'], run.identity)}. "
            "Give the settings of the first run, or start anew with --overwrite."
        )
    present = dict(run.task.module.named_parameters()) | dict(run.task.module.named_buffers())
    targets = {"model": present, "buffer": present, "ema": run.average.tensors, "best": run.best}
    memory: dict[str, Tensor] = {}
    for key, tensor in tensors.items():
        kind, _, name = key.partition(".")
        if kind == "memory":
            memory[name] = tensor
        else:
            targets[kind][name].copy_(tensor)
    if isinstance(run.task, Remembering):
        run.task.remember(memory)
    known: dict[str, Any] = metadata["state"]
    if known["best_score"] is None:
        known["best_score"] = -math.inf
    run.state = State(**known)
    run.average.updates = run.state.ema_updates


def is_run_of(task: Task, path: Path) -> bool:
    """Whether a checkpoint is there and belongs to a task, with whatever settings of the loop."""
    metadata = training_state_metadata(path)
    return metadata is not None and str(metadata["identity"]).partition("/")[0] == task.identity


def _what_differs(made: str, now: str) -> str:
    """In words, of two identities of runs."""
    (made_task, _, made_settings), (now_task, _, now_settings) = made.partition("/"), now.partition("/")
    if made_task != now_task:
        return f"another task or on other data ({made_task[:12]}…, now {now_task[:12]}…)"
    pairs = zip(made_settings.split(","), now_settings.split(","), strict=False)
    return f"other settings: {', '.join(f'{old}, now {new}' for old, new in pairs if old != new)}"
