"""Who carries units to workers: this machine's processes, SLURM, or Ray."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Literal, Protocol, get_args

from moe_pipeline.cluster.records import EngineFile
from moe_pipeline.cluster.units import Unit
from moe_pipeline.cluster.worker import Job
from moe_pipeline.errors import PipelineError
from moe_pipeline.workspace import Workspace

EngineName = Literal["local", "slurm", "ray"]
TRIES = 3
"""How often a unit is begun whose worker is lost each time."""


@dataclass(frozen=True, slots=True)
class Lost:
    """A unit that no worker has finished."""

    unit: Unit[Any]
    reason: str
    """What is known, for people."""


class Engine(Protocol):
    """Carries units to workers. What has become of them is in their files; it only says when to look."""

    def run(self, job: Job[Any, Any], units: Sequence[Unit[Any]]) -> Iterator[str | Lost]:
        """Keys of units that have ended, as they end, each once; or that a unit is lost."""

    def told(self) -> str:
        """Where units run and what their logs are, in one line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineOptions:
    """Where the units of a command run."""

    engine: EngineName = "local"
    """local, slurm or ray."""
    ray_address: str | None = None
    """Of a Ray cluster: auto, ray://HOST:10001 or HOST:6379; one is started here if not given."""
    jobs: int = 1
    """Units at once, for the local engine."""

    def __post_init__(self) -> None:
        if self.ray_address is not None and self.engine != "ray":
            raise PipelineError(f"--ray-address goes with --engine ray, not {self.engine}")
        if self.engine != "local" and self.jobs > 1:
            raise PipelineError(
                f"--jobs is for the local engine; {self.engine} does as many units at once as there is room for "
                "(at_once in engine.json)"
            )

    @property
    def is_local(self) -> bool:
        """Whether nothing is sent anywhere."""
        return self.engine == "local"


def as_engine(name: str) -> EngineName:
    """A name as one of those there are.

    Raises:
        PipelineError: if there is no such engine.
    """
    for known in get_args(EngineName):
        if name == known:
            return known  # type: ignore[no-any-return]
    raise PipelineError(f"no engine {name!r}; there are: {', '.join(get_args(EngineName))}")


def engine_file(place: Workspace) -> EngineFile:
    """What units take, as the workspace says.

    Raises:
        RecordError: if engine.json breaks its schema.
    """
    path = place.root / "engine.json"
    return EngineFile.load(path) if path.is_file() else EngineFile()


def open_engine(options: EngineOptions) -> Engine:
    """The engine that is asked for.

    Raises:
        PipelineError: if its extra is not installed, or there is no such cluster.
    """
    if options.engine == "ray":
        _require("ray", "ray")
        from moe_pipeline.cluster.on_ray import RayEngine

        return RayEngine(options.ray_address)
    if options.engine == "slurm":
        _require("submitit", "slurm")
        from moe_pipeline.cluster.on_slurm import SlurmEngine

        return SlurmEngine()
    from moe_pipeline.cluster.on_processes import ProcessEngine

    return ProcessEngine(options.jobs)


def _require(module: str, extra: str) -> None:
    if find_spec(module) is None:
        raise PipelineError(
            f"--engine {extra}: {module} is not installed; pip install 'moe-pipeline[{extra}]', or use --engine local"
        )
