"""What the training loop needs to know of what it trains, and for how long."""

import math
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

from torch import Tensor, nn

from moe_pipeline.errors import PipelineError

Precision = Literal["fp32", "bf16"]


def check_positive(**values: float | None) -> None:
    """Refuse what is no number above 0; None stands for a default.

    Args:
        values: by the names of the options, with underscores.

    Raises:
        PipelineError: names the first such option.
    """
    for name, value in values.items():
        if value is not None and not (math.isfinite(value) and value > 0):
            raise PipelineError(f"--{name.replace('_', '-')} must be a number above 0, got {value:g}")


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
    """Of matrices and kernels only."""
    kernel_rate: float = 0.0
    """Peak of the schedule for the kernels of convolutions, which Muon then moves; 0 leaves them to AdamW."""
    ema_decay: float = 0.99
    """Of the average that is validated and kept."""
    gradient_clip: float = 1.0
    """Largest norm of the gradient."""
    precision: Precision = "fp32"
    """bf16 runs the forward pass under autocast."""
    validate_first: bool = False
    """Whether the weights that training begins with are validated, too, and kept where none are better."""

    @property
    def identity(self) -> str:
        """What shapes the learning; the limits that only end it may change between two parts of a run."""
        free = {"max_minutes", "patience", "validate_first"}
        return ",".join(f"{name}={getattr(self, name)}" for name in self.__slots__ if name not in free)


class Task(Protocol):
    """What the loop trains. Step `n` must always see the same data: then a resumed run equals an undisturbed one."""

    @property
    def identity(self) -> str:
        """Hash of everything the outcome depends on besides the settings; a checkpoint of another task is refused."""

    @property
    def module(self) -> nn.Module:
        """Holds the trained weights; frozen parameters stay untouched."""

    def loss(self, step: int) -> Tensor:
        """Scalar to go backward from, drawn from the step number alone.

        Of several processes each gives its own part's loss, so that their mean is the loss of the whole batch.
        """

    def validate(self) -> dict[str, float]:
        """Columns for the log; "score" is maximised."""


@runtime_checkable
class Remembering(Protocol):
    """A task whose steps also depend on what was answered in earlier ones."""

    def memory(self) -> dict[str, Tensor]:
        """For the checkpoint, on the CPU; every process is asked."""

    def remember(self, memory: dict[str, Tensor]) -> None:
        """Take over what `memory` gave, before the first step of a resumed run."""
