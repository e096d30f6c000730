"""Work on many cases at once, by threads where decompression and statistics leave the interpreter free, or processes.

What threads read at the same time stays within half of the memory that is free, however large the cases are.
"""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from threading import Condition
from typing import TypeVar

from moe_pipeline.progress import Progress, track

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

_N_THREADS = min(4, os.cpu_count() or 1)
_MEMORY_SHARE = 0.5  # of what is free


def run_each(
    work: Callable[[_Item], _Result],
    items: Sequence[_Item],
    n_bytes: Callable[[_Item], int],
    stage: str,
    progress: Progress,
) -> Iterator[_Result]:
    """Results as they are done. What has not begun is dropped when the caller stops, or a piece of work raises.

    Args:
        work: safe to run in several threads.
        items: what to work on.
        n_bytes: how much memory an item takes, such as `case_bytes`; called in the thread.
        stage: for the progress.
        progress: told after each item.
    """
    budget = MemoryBudget()

    def within(item: _Item) -> _Result:
        with budget.reserved(n_bytes(item)):
            return work(item)

    with ThreadPoolExecutor(_N_THREADS) as pool:
        pending = [pool.submit(within, item) for item in items]
        try:
            for done in track(as_completed(pending), stage, progress, len(items)):
                yield done.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


@contextmanager
def process_pool(jobs: int, begin: Callable[..., None], arguments: tuple[object, ...]) -> Iterator[ProcessPoolExecutor]:
    """Processes that end with this one, however it ends.

    Args:
        jobs: how many.
        begin: called in each of them first.
        arguments: its arguments.
    """
    others = set(multiprocessing.active_children())
    context = multiprocessing.get_context("spawn")  # a fork of a process with threads may hang
    with ProcessPoolExecutor(jobs, mp_context=context, initializer=_begin, initargs=(begin, arguments)) as pool:
        try:
            yield pool
        except BaseException:
            for process in set(multiprocessing.active_children()) - others:
                process.terminate()  # what they write appears whole or not at all
            raise


def _begin(begin: Callable[..., None], arguments: tuple[object, ...]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent hears it too, and ends its workers
    threading.Thread(target=_end_with_parent, daemon=True).start()
    begin(*arguments)


def _end_with_parent() -> None:
    """A worker would wait for ever for a parent that was killed."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


class MemoryBudget:
    """Memory that several threads share. A case that is larger than all of it still runs, alone.

    Args:
        total: bytes; half of what is free when it is first asked for, if not given.
    """

    def __init__(self, total: int | None = None) -> None:
        self._total = total
        self._used = 0
        self._changed = Condition()

    @property
    def used(self) -> int:
        """Bytes that are reserved now."""
        return self._used

    @contextmanager
    def reserved(self, amount: int) -> Iterator[None]:
        """Wait until there are so many bytes, and hold them for as long as the block runs."""
        if amount == 0:
            yield
            return
        with self._changed:
            self._total = self._total or _free_bytes()
            total = self._total
            self._changed.wait_for(lambda: self._used == 0 or self._used + amount <= total)
            self._used += amount
        try:
            yield
        finally:
            with self._changed:
                self._used -= amount
                self._changed.notify_all()


def _free_bytes() -> int:
    import psutil  # only large cases need it

    return int(psutil.virtual_memory().available * _MEMORY_SHARE)
