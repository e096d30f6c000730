"""Units as tasks of Ray: a cluster that is there, or one that is started here and ends with the command."""

import logging
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # read when ray is imported: nothing is sent to anybody
os.environ.setdefault("RAY_worker_niceness", "0")  # of what is started here; Ray's own 15 starves on a busy machine

import ray
from ray.exceptions import RayError, RayTaskError

from moe_pipeline.cluster.engines import TRIES, Lost
from moe_pipeline.cluster.records import Resources
from moe_pipeline.cluster.units import Unit
from moe_pipeline.cluster.worker import Job, carry_out
from moe_pipeline.errors import PipelineError

_WAITING = 512
"""Tasks that Ray knows of at least: enough for a cluster to see that it should grow, few enough to ask about."""
_ROOM_SECONDS = 10.0  # for which the size of a cluster is not asked for again
_STORE_BYTES = 100 << 20  # units go through files, so that the least is enough


@dataclass(frozen=True, slots=True)
class RayEngine:
    """Runs units on Ray, which runs those again whose worker or node is lost."""

    address: str | None = None
    """Of a cluster; None: started here."""

    def run(self, job: Job[Any, Any], units: Sequence[Unit[Any]]) -> Iterator[str | Lost]:
        """As of `Engine`.

        Raises:
            PipelineError: if there is no such cluster, it has no room for a unit, or a worker cannot begin.
        """
        with _connected(self.address, job.resources):
            task = ray.remote(carry_out).options(**_options(job.resources))
            shared, upcoming, room = ray.put(job), iter(units), _Room(job.resources)
            running: dict[Any, Unit[Any]] = {}
            while True:
                free = max(0, room.tasks() - len(running))
                running |= {task.remote(shared, unit): unit for unit in islice(upcoming, free)}
                if not running:
                    return
                refs = list(running)
                first, _ = ray.wait(refs, num_returns=1)
                for ref in set(first) | set(ray.wait(refs, num_returns=len(refs), timeout=0)[0]):
                    yield _outcome(ref, running.pop(ref))

    def told(self) -> str:
        """As of `Engine`."""
        return f"Ray at {self.address}" if self.address else "Ray, started here"


class _Room:
    """How many tasks Ray is told of at a time: twice as many as run at once, so that no worker waits."""

    def __init__(self, resources: Resources) -> None:
        self._cpus = resources.cpus
        self._asked, self._tasks = -_ROOM_SECONDS, _WAITING

    def tasks(self) -> int:
        """As the cluster is now; it may have grown."""
        if time.monotonic() - self._asked >= _ROOM_SECONDS:
            self._asked = time.monotonic()
            self._tasks = max(_WAITING, 2 * int(ray.cluster_resources().get("CPU", 0) / self._cpus))
        return self._tasks


def _options(resources: Resources) -> dict[str, Any]:
    wanted: dict[str, Any] = {"num_cpus": resources.cpus, "num_gpus": resources.gpus}
    if resources.memory_gb is not None:
        wanted["memory"] = int(resources.memory_gb * 2**30)
    return {**wanted, "max_retries": TRIES - 1, "retry_exceptions": False}


def _outcome(ref: Any, unit: Unit[Any]) -> str | Lost:
    try:
        ray.get(ref)
    except RayTaskError as error:  # not of the unit, whose errors are in its file: the worker could not begin with it
        raise PipelineError(f"{unit.name}: a worker could not begin: {error.cause or error}") from error
    except RayError as error:
        return Lost(unit, f"its worker was lost {TRIES} times: {str(error).splitlines()[0]}")
    return unit.key


@contextmanager
def _connected(address: str | None, resources: Resources) -> Iterator[None]:
    if ray.is_initialized():
        yield
        return
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address is not None:
        _connect(address, quiet)
        try:
            yield
        finally:
            ray.shutdown()
        return
    cores = os.cpu_count() or 1
    if resources.cpus > cores:
        raise PipelineError(f"a unit is to take {resources.cpus} cores (engine.json), but there are {cores} here")
    folder = tempfile.mkdtemp(prefix="moe-ray-")
    try:
        ray.init(include_dashboard=False, object_store_memory=_STORE_BYTES, _temp_dir=folder, **quiet)
        yield
    finally:
        ray.shutdown()
        shutil.rmtree(folder, ignore_errors=True)


def _connect(address: str, quiet: dict[str, Any]) -> None:
    try:
        ray.init(address, **quiet)
    except (ConnectionError, OSError, RuntimeError, ValueError) as error:
        raise PipelineError(
            f"--ray-address {address}: no Ray cluster answers there ({error}); see `ray status`"
        ) from error
