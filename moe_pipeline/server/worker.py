"""The one thread that asks the model: clients take turns, so that none waits for all that another one has asked."""

import asyncio
import threading
from collections import OrderedDict, deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from moe_pipeline.errors import PipelineError
from moe_pipeline.server.leases import Lease

MOST_WAITING = 64
"""Requests of one client that may wait; a person makes one at a time."""

_Result = TypeVar("_Result")


class BusyError(PipelineError):
    """A client asks for more than can wait."""


class Worker:
    """Work by client, done one piece at a time and one client after the other."""

    def __init__(self) -> None:
        self._waiting: OrderedDict[str, deque[tuple[Future[Any], Callable[[], Any]]]] = OrderedDict()
        self._something = threading.Condition()
        self._ended = False
        self._thread = threading.Thread(target=self._work, name="model", daemon=True)
        self._thread.start()

    async def run(self, lease: Lease, work: Callable[[], _Result]) -> _Result:
        """Do a piece of work of a client when its turn comes.

        Raises:
            BusyError: if too much of this client waits already.
        """
        future: Future[_Result] = Future()
        with self._something:
            queue = self._waiting.setdefault(lease.token, deque())
            if self._ended or len(queue) >= MOST_WAITING:
                raise BusyError("too many requests of this session wait already; wait for their answers")
            queue.append((future, work))
            self._something.notify()
        lease.busy += 1
        try:
            return await asyncio.wrap_future(future)
        finally:
            lease.busy -= 1

    @property
    def n_waiting(self) -> int:
        """Pieces of work that wait."""
        with self._something:
            return sum(len(queue) for queue in self._waiting.values())

    def end(self) -> None:
        """Finish what is being done, and drop the rest."""
        with self._something:
            self._ended = True
            for queue in self._waiting.values():
                for future, _ in queue:
                    future.cancel()
            self._waiting.clear()
            self._something.notify_all()
        self._thread.join()

    def _work(self) -> None:
        while True:
            with self._something:
                while not self._waiting and not self._ended:
                    self._something.wait()
                if self._ended:
                    return
                token, queue = self._waiting.popitem(last=False)
                future, work = queue.popleft()
                if queue:
                    self._waiting[token] = queue  # behind all others
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(work())
                except BaseException as error:  # noqa: BLE001 - handed to whoever waits for it
                    future.set_exception(error)
            del future, work  # what they hold is the client's, not ours to keep until the next one comes
