"""Cases one after the other, with reading and writing beside the computation; or several at once."""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from functools import lru_cache
from itertools import islice
from typing import Protocol

import torch

from moe_pipeline.errors import PipelineError
from moe_pipeline.inference.batch.case_files import CaseFiles, CaseTask, Outcome
from moe_pipeline.inference.options import ModelOptions
from moe_pipeline.journal.written import Written
from moe_pipeline.mixture.model import Mixture
from moe_pipeline.parallel import process_pool

Keep = Callable[[CaseTask, Outcome], None]
"""Told of each case when its files are written."""


class RunCases(Protocol):
    """Whoever does cases elsewhere than in this process."""

    def take_notes(self, own: Written) -> None:
        """Note what has been written there so far, perhaps since an earlier command."""

    def __call__(self, files: CaseFiles, tasks: Sequence[CaseTask], description: str, keep: Keep) -> None:
        """Do cases; `description` is the hash of what is the same for all of them."""


def run_overlapped(model: Mixture, files: CaseFiles, tasks: Sequence[CaseTask], keep: Keep) -> None:
    """Do the cases in order. While one is computed, the next one is read and the last one written.

    Args:
        model: the mixture.
        files: of the run.
        tasks: what to do.
        keep: told of each case when its files are written; also of the one that is being written when the run stops.
    """
    writing: tuple[CaseTask, Future[Outcome]] | None = None

    def settle() -> None:
        nonlocal writing
        done, writing = writing, None
        if done is not None:
            keep(done[0], done[1].result())

    with ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(1) as writer:
        upcoming = iter(tasks)
        reading = [reader.submit(files.read, task) for task in islice(upcoming, 1)]
        try:
            for task in tasks:
                ready = reading.pop().result()
                reading = [reader.submit(files.read, following) for following in islice(upcoming, 1)]
                result = files.answer(model, ready)
                settle()
                writing = task, writer.submit(files.write, ready, result)
                del ready, result  # the next case takes their place in memory
        finally:
            for future in reading:
                future.cancel()
            settle()


def run_in_processes(options: ModelOptions, files: CaseFiles, tasks: Iterable[CaseTask], jobs: int, keep: Keep) -> None:
    """Do several cases at once, each in a process of its own that loads the model and has its share of the threads.

    Args:
        options: of the model.
        files: of the run.
        tasks: what to do.
        jobs: processes.
        keep: told of each case when its files are written.

    Raises:
        PipelineError: if a process was ended from outside.
    """
    threads = max(torch.get_num_threads() // jobs, 1)
    upcoming = iter(tasks)
    with process_pool(jobs, _begin, (options, files, threads)) as pool:
        running = {pool.submit(_do, task): task for task in islice(upcoming, jobs)}
        try:
            while running:
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    task = running.pop(future)
                    keep(task, future.result())
                    running |= {pool.submit(_do, following): following for following in islice(upcoming, 1)}
        except BrokenProcessPool as error:
            raise PipelineError(
                "a process was ended by the system, most likely because memory ran out. What is done is kept; run the "
                f"same command again with fewer than {jobs} jobs"
            ) from error


_own: list[tuple[ModelOptions, CaseFiles]] = []
"""In a worker: what it was started for."""


def _begin(options: ModelOptions, files: CaseFiles, threads: int) -> None:
    torch.set_num_threads(threads)
    _own.append((options, files))


@lru_cache(maxsize=1)
def model_of(options: ModelOptions) -> Mixture:
    """A model, loaded once per process."""
    return options.load()


def do_case(options: ModelOptions, files: CaseFiles, task: CaseTask) -> Outcome:
    """Read, answer and write one case in this process."""
    ready = files.read(task)
    return files.write(ready, files.answer(model_of(options), ready))


def _do(task: CaseTask) -> Outcome:
    return do_case(*_own[0], task)
