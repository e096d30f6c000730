"""Cases one after the other, with reading and writing beside the computation; or several at once."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, ThreadPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import cache
from itertools import islice

import torch

from moe_pipeline.errors import PipelineError
from moe_pipeline.inference.batch.case_files import CaseFiles, CaseTask, Outcome
from moe_pipeline.inference.options import ModelOptions
from moe_pipeline.mixture.model import Mixture

Keep = Callable[[CaseTask, Outcome], None]


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
    with _pool(jobs, (options, files, threads)) as pool:
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


@contextmanager
def _pool(jobs: int, arguments: tuple[ModelOptions, CaseFiles, int]) -> Iterator[ProcessPoolExecutor]:
    """Processes that end with this one, however it ends."""
    others = set(multiprocessing.active_children())
    context = multiprocessing.get_context("spawn")  # a fork of a process with threads may hang
    with ProcessPoolExecutor(jobs, mp_context=context, initializer=_begin, initargs=arguments) as pool:
        try:
            yield pool
        except BaseException:
            for process in set(multiprocessing.active_children()) - others:
                process.terminate()  # what they write appears whole or not at all
            raise


_own: list[tuple[ModelOptions, CaseFiles]] = []
"""In a worker: what it was started for."""


def _begin(options: ModelOptions, files: CaseFiles, threads: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent hears it too, and ends its workers
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(threads)
    _own.append((options, files))


def _end_with_parent() -> None:
    """A worker would wait for ever for a parent that was killed."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


@cache
def _model() -> Mixture:
    return _own[0][0].load()


def _do(task: CaseTask) -> Outcome:
    files = _own[0][1]
    ready = files.read(task)
    return files.write(ready, files.answer(_model(), ready))
