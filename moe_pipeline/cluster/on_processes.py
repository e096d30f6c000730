"""Units in processes of this machine."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool, ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any

from moe_pipeline.cluster.engines import TRIES, Lost
from moe_pipeline.cluster.units import Unit
from moe_pipeline.cluster.worker import Job, carry_out
from moe_pipeline.parallel import process_pool

_own: list[Job[Any, Any]] = []
"""In a worker: what it was started for."""


@dataclass(frozen=True, slots=True)
class ProcessEngine:
    """Some units at once, each in a process that does one after the other; one that dies costs its own unit alone."""

    jobs: int = 1

    def run(self, job: Job[Any, Any], units: Sequence[Unit[Any]]) -> Iterator[str | Lost]:
        """As of `Engine`."""
        idle: SimpleQueue[ProcessPoolExecutor] = SimpleQueue()

        def begin() -> None:
            idle.put(pools.enter_context(process_pool(1, _take, (job,))))

        def attempt(unit: Unit[Any]) -> str | Lost:
            for _ in range(TRIES):
                pool = idle.get()
                try:
                    pool.submit(_do, unit).result()
                except BrokenProcessPool:
                    begin()
                else:
                    idle.put(pool)
                    return unit.key
            return Lost(unit, "its process was ended by the system, most likely because memory ran out")

        n_slots = min(self.jobs, len(units))
        with ThreadPoolExecutor(n_slots) as threads, ExitStack() as pools:
            for _ in range(n_slots):
                begin()
            pending = [threads.submit(attempt, unit) for unit in units]
            try:
                for future in as_completed(pending):
                    yield future.result()
            finally:
                threads.shutdown(wait=False, cancel_futures=True)

    def told(self) -> str:
        """As of `Engine`."""
        return f"{self.jobs} processes here"


def _take(job: Job[Any, Any]) -> None:
    _own.append(job)


def _do(unit: Unit[Any]) -> None:
    carry_out(_own[0], unit)
