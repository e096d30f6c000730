"""Units as jobs of SLURM arrays, through submitit. Jobs outlive the command; repeated, it waits for those it finds."""

import getpass
import re
import shutil
import subprocess
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any, Literal

import psutil
import submitit
from pydantic import ValidationError

from moe_pipeline.cluster.engines import TRIES, Lost
from moe_pipeline.cluster.records import Resources, SubmittedJob
from moe_pipeline.cluster.units import JOBS, SLURM, Board, Unit
from moe_pipeline.cluster.worker import Job, carry_out
from moe_pipeline.errors import PipelineError
from moe_pipeline.files import append_line

_LONGEST_ARRAY = 1000  # SLURM's MaxArraySize is 1001 unless somebody has raised it
_GRACE_SECONDS = 60.0  # for which a shared folder may not yet show what a job has written


class Chunk:
    """What one job runs: some units, one after the other; when its time is up, what is left is queued again."""

    def __init__(self, job: Job[Any, Any], units: tuple[Unit[Any], ...]) -> None:
        self.job, self.units = job, units

    def __call__(self) -> None:
        """Do what is left of them."""
        for unit in self.units:
            carry_out(self.job, unit)

    def checkpoint(self) -> submitit.helpers.DelayedSubmission:
        """What submitit queues again when the time is up."""
        return submitit.helpers.DelayedSubmission(self)


@dataclass(frozen=True, slots=True)
class SlurmEngine:
    """Runs units as job arrays; one whose job was lost is queued again, one that was cancelled is not."""

    cluster: Literal["slurm", "local"] = "slurm"
    """local: submitit's stand-in for SLURM, for tests."""
    seconds: float = 2.0
    """How often to look for files; jobs are looked for as often, but not before."""
    grace_seconds: float = _GRACE_SECONDS
    """For which a file of an ended job may be late."""

    def run(self, job: Job[Any, Any], units: Sequence[Unit[Any]]) -> Iterator[str | Lost]:
        """As of `Engine`.

        Raises:
            PipelineError: if there is no SLURM here, or it refuses the jobs.
        """
        if self.cluster == "slurm" and shutil.which("sbatch") is None:
            raise PipelineError("--engine slurm: there is no sbatch here; run the command where jobs are submitted")
        queue = _Queue(self, job, {unit.key: unit for unit in units})
        queue.begin()
        while queue.left:
            yield from queue.ended()
            yield from queue.lost()
            if queue.left:
                time.sleep(self.seconds)

    def told(self) -> str:
        """As of `Engine`."""
        return "SLURM"

    def submit(self, job: Job[Any, Any], units: Sequence[Unit[Any]]) -> dict[str, tuple[str, ...]]:
        """Queue units as one array; gives the keys that each job does, and writes that down."""
        if not units:
            return {}
        size = max(job.resources.units_per_job, ceil(len(units) / _LONGEST_ARRAY))
        chunks = [Chunk(job, tuple(units[start : start + size])) for start in range(0, len(units), size)]
        executor = submitit.AutoExecutor(job.board.folder / SLURM, cluster=self.cluster)
        executor.update_parameters(**_parameters(job.resources, size))
        try:
            with executor.batch():
                jobs = [executor.submit(chunk) for chunk in chunks]
        except submitit.core.utils.FailedJobError as error:
            raise PipelineError(f"--engine slurm: sbatch refused the jobs: {error}") from error
        held = {one.job_id: tuple(unit.key for unit in chunk.units) for one, chunk in zip(jobs, chunks, strict=True)}
        for job_id, keys in held.items():
            append_line(job.board.folder / JOBS, SubmittedJob(job_id=job_id, keys=keys).model_dump_json())
        return held

    def alive(self, job_ids: Collection[str]) -> Collection[str]:
        """Which jobs wait or run; all of them if nobody can say at the moment."""
        if self.cluster == "local":
            return {job_id for job_id in job_ids if _is_running(int(job_id))}
        asked = ["squeue", "--noheader", "--array", "--user", getpass.getuser(), "--format", "%i"]
        told = subprocess.run(asked, capture_output=True, text=True, check=False)
        return set(told.stdout.split()) if told.returncode == 0 else job_ids

    def state(self, board: Board, job_id: str) -> str:
        """How a job ended, as far as the controller still knows; works without SLURM's accounting.

        Of a task of an array that is cancelled before it begins, the controller keeps nothing.
        """
        if self.cluster == "local":
            return "ENDED"
        asked = ["scontrol", "show", "job", job_id, "--oneliner"]
        told = subprocess.run(asked, capture_output=True, text=True, check=False).stdout
        found = re.search(r"\bJobState=(\w+)", told)
        has_begun = (board.folder / SLURM / f"{job_id}_0_log.out").is_file()
        return found[1] if found else "UNKNOWN" if has_begun else "CANCELLED"


class _Queue:
    """The jobs of one run."""

    def __init__(self, engine: SlurmEngine, job: Job[Any, Any], left: dict[str, Unit[Any]]) -> None:
        self.left = left
        self._engine, self._job = engine, job
        self._held: dict[str, tuple[str, ...]] = {}
        self._tries = dict.fromkeys(left, 1)
        self._gone: dict[str, float] = {}

    def begin(self) -> None:
        """Take over the jobs that an earlier command has left in the queue, and queue the rest."""
        earlier = {
            one.job_id: one.keys for one in _submitted(self._job.board) if not self.left.keys().isdisjoint(one.keys)
        }
        alive = self._engine.alive(earlier)
        self._held = {job_id: keys for job_id, keys in earlier.items() if job_id in alive}
        waiting = {key for keys in self._held.values() for key in keys}
        self._submit([unit for key, unit in self.left.items() if key not in waiting])

    def ended(self) -> Iterator[str]:
        """What has a file now."""
        for key in sorted(self._job.board.ended() & self.left.keys()):
            del self.left[key]
            yield key

    def lost(self) -> Iterator[Lost]:
        """What has neither file nor job and will not be tried again; queues again what will."""
        self._held = {job_id: keys for job_id, keys in self._held.items() if not self.left.keys().isdisjoint(keys)}
        alive, now = self._engine.alive(self._held), time.monotonic()
        for job_id in self._held.keys() - alive:
            if now - self._gone.setdefault(job_id, now) >= self._engine.grace_seconds:
                yield from self._give_up(job_id, self._engine.state(self._job.board, job_id))

    def _give_up(self, job_id: str, state: str) -> Iterator[Lost]:
        missing = [self.left[key] for key in self._held.pop(job_id) if key in self.left]
        again = [unit for unit in missing if state != "CANCELLED" and self._tries[unit.key] < TRIES]
        for unit in missing:
            if unit not in again:
                del self.left[unit.key]
                log = self._job.board.folder / SLURM / f"{job_id}_0_log.err"
                told = f"; its log: {log}" if log.is_file() else ""
                yield Lost(unit, f"SLURM job {job_id} ended as {state}; the same command does it again{told}")
        for unit in again:
            self._tries[unit.key] += 1
        self._submit(again)

    def _submit(self, units: Sequence[Unit[Any]]) -> None:
        self._held |= self._engine.submit(self._job, units)


def _parameters(resources: Resources, units: int) -> dict[str, Any]:
    """As submitit names them. Those of SLURM alone are ignored by its stand-in."""
    return {
        "name": "moe",
        "timeout_min": ceil(resources.minutes * units),
        "cpus_per_task": resources.cpus,
        "gpus_per_node": resources.gpus or None,
        "mem_gb": resources.memory_gb,
        "slurm_partition": resources.partition,
        "slurm_account": resources.account,
        "slurm_array_parallelism": resources.at_once,
        "slurm_additional_parameters": dict(resources.slurm),
        "slurm_setup": [f"export OMP_NUM_THREADS={resources.cpus}"],
    }


def _submitted(board: Board) -> list[SubmittedJob]:
    path = board.folder / JOBS
    texts = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    found = []
    for text in texts:
        try:
            found.append(SubmittedJob.model_validate_json(text))
        except ValidationError:
            continue  # cut off
    return found


def _is_running(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
