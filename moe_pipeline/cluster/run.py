"""Runs the units of a command on an engine, and hands out what has become of them, from their files."""

import time
from collections.abc import Callable, Iterable, Iterator

from moe_pipeline.cluster.engines import Engine, Lost
from moe_pipeline.cluster.records import UnitRecord
from moe_pipeline.cluster.units import Board, ItemT, Unit
from moe_pipeline.cluster.worker import Job, ResultT
from moe_pipeline.errors import PipelineError

_LATE_SECONDS = 60.0  # for which a shared folder may hide what a worker of another machine has written


def run_units(
    engine: Engine,
    job: Job[ItemT, ResultT],
    units: Iterable[Unit[ItemT]],
    holds: Callable[[ResultT], bool] = lambda _: True,
) -> Iterator[tuple[Unit[ItemT], UnitRecord]]:
    """Do what is missing.

    Args:
        engine: who carries units to workers.
        job: what is done with each.
        units: what there is to do.
        holds: whether what an earlier run has done is still there.

    Yields:
        Each unit once, with what has become of it: first those that have ended already, then others as they end.

    Raises:
        PipelineError: if the disk is full, or the engine cannot begin.
    """
    board = job.board
    board.folder.mkdir(parents=True, exist_ok=True)
    ended, by_key = board.ended(), {unit.key: unit for unit in units}
    for key in [key for key in by_key if key in ended]:
        record = board.record(key)
        if record is not None and _counts(job, record, holds):
            yield by_key.pop(key), record
        else:
            board.drop(key)  # damaged, of a disk that was full, or its files are gone
    if not by_key:
        return
    for event in engine.run(job, list(by_key.values())):
        if isinstance(event, Lost):
            yield (
                event.unit,
                UnitRecord(name=event.unit.name, status="lost", message=f"{event.unit.name}: {event.reason}"),
            )
            continue
        record = _record_of(board, event)
        if record.status == "full":
            board.drop(event)
            raise PipelineError(
                f"{record.host}: the disk is full ({record.message}). What is done is kept; make room and run the same "
                "command again"
            )
        yield by_key[event], record


def _counts(job: Job[ItemT, ResultT], record: UnitRecord, holds: Callable[[ResultT], bool]) -> bool:
    if record.status == "done":
        return holds(job.result_of(record))
    return record.status == "failed"


def _record_of(board: Board, key: str) -> UnitRecord:
    """The file of a unit that has ended; a shared folder may show it late."""
    limit = time.monotonic() + _LATE_SECONDS
    while time.monotonic() < limit:
        if (record := board.record(key)) is not None:
            return record
        time.sleep(0.2)
        board.ended()  # a listing makes a network file system look again
    raise PipelineError(f"{board.folder}: {key}.json is not there; is this a folder that all workers share?")
