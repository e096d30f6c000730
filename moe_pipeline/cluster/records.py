"""What a unit of work may take on a cluster, and what is kept of one that has ended."""

from typing import Any, Literal

from pydantic import Field

from moe_pipeline.records.base import Part, Record


class Resources(Part):
    """What one unit takes: one case, or one fold of one expert."""

    cpus: int = Field(default=1, ge=1)
    """Processor cores; also the threads that it computes with."""
    gpus: int = Field(default=0, ge=0)
    """GPUs."""
    memory_gb: float | None = Field(default=None, gt=0)
    """Memory; what the cluster gives unasked if null."""
    minutes: float = Field(default=60, gt=0)
    """Longest time, on SLURM."""
    partition: str | None = None
    """SLURM's --partition."""
    account: str | None = None
    """SLURM's --account."""
    slurm: dict[str, str | int | bool] = Field(default_factory=dict)
    """Further options of sbatch by their long names: {"constraint": "avx512", "qos": "low"}."""
    units_per_job: int = Field(default=1, ge=1)
    """Units that one SLURM job does one after the other; more where an array would be too large."""
    at_once: int = Field(default=256, ge=1)
    """Jobs of an array that may run at the same time, on SLURM."""


class EngineFile(Record):
    """engine.json of a workspace: what units take, for all commands and, where they differ, for single ones."""

    all: Resources = Resources()
    """For every command."""
    predict: Resources = Resources()
    """Instead, for one case of `moe predict`: only what is named differs."""
    finetune: Resources = Resources()
    """As `predict`, for one fold of one dataset."""
    encode: Resources = Resources()
    """As `predict`, for the embeddings of one case."""
    convert: Resources = Resources()
    """As `predict`, for one case of `moe convert`."""
    plan: Resources = Resources()
    """As `predict`, for one case of `moe plan`."""
    evaluate: Resources = Resources()
    """As `predict`, for one case of `moe evaluate --matrix`."""

    def of(self, command: str) -> Resources:
        """What a unit of a command takes."""
        own: Resources = getattr(self, command)
        return self.all.model_copy(update={name: getattr(own, name) for name in own.model_fields_set})


class UnitRecord(Part):
    """A unit that has ended; written by its worker as a whole."""

    name: str
    """Of the unit."""
    status: Literal["done", "failed", "full", "lost"]
    """done: see result. failed: it raised, and would again. full: the disk is. lost: its worker, again and again."""
    message: str = ""
    """What was raised."""
    result: Any = None
    """JSON of what the work gave."""
    notes: str = ""
    """File beside the record in which the worker has noted what it wrote; empty if it wrote nothing."""
    host: str = ""
    """Where."""
    seconds: float = 0.0
    """How long."""


class SubmittedJob(Part):
    """A job that was given to SLURM, so that a repeated command waits for it instead of asking again."""

    job_id: str
    """As squeue names it: 123_4."""
    keys: tuple[str, ...]
    """Units that it does."""
