"""What runs on a worker: one unit, whose outcome is a file."""

import logging
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Generic, TypeVar

from pydantic import TypeAdapter

from moe_pipeline.cluster.records import Resources, UnitRecord
from moe_pipeline.cluster.units import Board, ItemT, Unit
from moe_pipeline.journal.case_errors import CaseError, guarded

ResultT = TypeVar("ResultT")
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Job(Generic[ItemT, ResultT]):
    """What is done with every unit. It is sent to each worker."""

    work: Callable[[ItemT, Path], ResultT]
    """Given an item and the file in which to note what is written; raises for what would fail anywhere."""
    result: Any
    """Type of what it gives: a record, a dataclass of records, or the like."""
    board: Board
    """Where workers say what has become of units."""
    resources: Resources
    """What a unit takes."""

    def result_of(self, record: UnitRecord) -> ResultT:
        """What the work gave, from the file."""
        found: ResultT = _adapter(self.result).validate_python(record.result)
        return found


def carry_out(job: Job[ItemT, ResultT], unit: Unit[ItemT]) -> None:
    """Do a unit, unless it is done, and write what has become of it."""
    if job.board.record(unit.key) is not None:
        return
    began = time.monotonic()
    with _logged(job.board.log(unit.key)):
        record = _attempt(job, unit)
    notes = job.board.notes(unit.key)
    told: dict[str, Any] = {"host": socket.gethostname(), "seconds": round(time.monotonic() - began, 3)}
    told["notes"] = notes.name if notes.is_file() else ""
    job.board.write(unit.key, record.model_copy(update=told))


def _attempt(job: Job[ItemT, ResultT], unit: Unit[ItemT]) -> UnitRecord:
    _use_threads(job.resources.cpus)
    try:
        result = guarded(unit.name, None, lambda: job.work(unit.item, job.board.notes(unit.key)))
    except OSError as error:  # of a full disk, the only one that is not caught
        return UnitRecord(name=unit.name, status="full", message=str(error))
    if isinstance(result, CaseError):
        _log.error("%s", result.message)
        return UnitRecord(name=unit.name, status="failed", message=result.message)
    return UnitRecord(name=unit.name, status="done", result=_adapter(job.result).dump_python(result, mode="json"))


@cache
def _adapter(result: Any) -> TypeAdapter[Any]:
    """Made once: making one takes as long as all else that the command does for a unit."""
    return TypeAdapter(result)


def _use_threads(count: int) -> None:
    """The work has imported torch when it was unpacked, if it needs it at all."""
    if "torch" in sys.modules:
        import torch

        torch.set_num_threads(count)


@contextmanager
def _logged(path: Path) -> Iterator[None]:
    """Write what is logged meanwhile into a file, which is made when there is something to write."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(path, delay=True, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    root = logging.getLogger()
    root.addHandler(handler)
    try:
        yield
    finally:
        root.removeHandler(handler)
        handler.close()
