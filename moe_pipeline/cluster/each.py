"""Work on each of many items, elsewhere: for stages whose work gives a record and writes nothing else."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic

from moe_pipeline.cluster.engines import Engine
from moe_pipeline.cluster.records import Resources
from moe_pipeline.cluster.run import run_units
from moe_pipeline.cluster.units import Board, ItemT, Unit
from moe_pipeline.cluster.worker import Job, ResultT
from moe_pipeline.progress import Progress, track


@dataclass(frozen=True, slots=True)
class _Plainly(Generic[ItemT, ResultT]):
    """Work that notes nothing."""

    work: Callable[[ItemT], ResultT]

    def __call__(self, item: ItemT, notes: Path) -> ResultT:  # noqa: ARG002 - nothing is written
        return self.work(item)


@dataclass(frozen=True, slots=True)
class EachOnEngine(Generic[ItemT, ResultT]):
    """Does as `parallel.run_each` does, on an engine."""

    engine: Engine
    resources: Resources
    board: Board
    result: Any
    """Type of a result."""
    unit_of: Callable[[ItemT], Unit[ItemT]]
    """Name and inputs of an item."""
    rescue: Callable[[ItemT, str], ResultT]
    """Result of an item whose worker was lost, with the reason."""

    def __call__(
        self,
        work: Callable[[ItemT], ResultT],
        items: Sequence[ItemT],
        n_bytes: Callable[[ItemT], int],  # noqa: ARG002 - each worker has its own memory
        stage: str,
        progress: Progress,
    ) -> Iterator[ResultT]:
        """As of `run_each`. A result is forgotten here when the next one is asked for."""
        job = Job(_Plainly(work), self.result, self.board, self.resources)
        ended = run_units(self.engine, job, [self.unit_of(item) for item in items])
        for unit, record in track(ended, stage, progress, len(items)):
            yield job.result_of(record) if record.status == "done" else self.rescue(unit.item, record.message)
            self.board.drop(unit.key)
        self.board.close()
