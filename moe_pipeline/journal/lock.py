"""One writer per folder: a lock file that says which process has it.

Whether a process of this machine lives is asked of this machine. One of another machine shows that it does: it renews
the time of its lock file, which is judged by the clock of the file server alone.
"""

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread

import psutil
from pydantic import ValidationError

from moe_pipeline.errors import PipelineError
from moe_pipeline.files import temporary_for
from moe_pipeline.records.base import Part

_CLOCK_SECONDS = 5.0  # by which a clock that is set may move the start of a process
_WRITING_SECONDS = 10.0  # after which a lock file without content is what a killed process left
_RENEW_SECONDS = 20.0
LEASE_SECONDS = 180.0
"""After which a lock of another machine that was not renewed is that of a machine that was lost."""

_renewing: dict[Path, Event] = {}


class LockedError(PipelineError):
    """Another process writes there."""


class LockOwner(Part):
    """Content of a lock file: who wrote it."""

    pid: int
    """Process id on that host."""
    host: str
    """Its name."""
    started: float
    """When the process started, in seconds since 1970: a process id is used again some day."""
    command: str
    """What it does, for the message."""


@contextmanager
def locked(path: Path, command: str) -> Iterator[None]:
    """Be the only one who writes beside a lock file while the block runs; arguments as of `take_lock`."""
    take_lock(path, command)
    try:
        yield
    finally:
        release_lock(path)


def take_lock(path: Path, command: str) -> None:
    """Make a lock file of this process; take over one whose process, of this host, is no more.

    Args:
        path: of the lock file.
        command: what this process does.

    Raises:
        LockedError: if another process has it; names that process.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    own = LockOwner(pid=os.getpid(), host=socket.gethostname(), started=_started(os.getpid()), command=command)
    while not _made(path, own):
        try:
            found = path.read_text(encoding="utf-8")
            age_seconds = _server_time(path) - path.stat().st_mtime
        except FileNotFoundError:
            continue  # it was released this very moment
        if not _is_stale(found, age_seconds):
            raise LockedError(f"{path.parent}: {_described(found, path)}")
        _retire(path, found)
    _renewing[path] = Event()
    Thread(target=_renew, args=(path, path.read_text(encoding="utf-8"), _renewing[path]), daemon=True).start()


def release_lock(path: Path) -> None:
    """Remove the lock file of this process."""
    if (renewing := _renewing.pop(path, None)) is not None:
        renewing.set()
    path.unlink(missing_ok=True)


def _renew(path: Path, own: str, released: Event) -> None:
    """Show that this process lives, until it has released the lock or somebody has taken it over."""
    while not released.wait(_RENEW_SECONDS):
        try:
            if path.read_text(encoding="utf-8") != own:
                return
            os.utime(path)
        except OSError:
            continue  # a file server that is away for a moment


def _server_time(path: Path) -> float:
    """Now, by the clock of whoever keeps the files of this folder."""
    probe = temporary_for(path)
    probe.touch()
    try:
        return probe.stat().st_mtime
    finally:
        probe.unlink(missing_ok=True)


def _made(path: Path, owner: LockOwner) -> bool:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    except FileExistsError:
        return False
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        stream.write(json.dumps(owner.model_dump()))
    return True


def _retire(path: Path, found: str) -> None:
    """Remove a stale lock file, but not one that somebody else has taken over meanwhile."""
    aside = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        path.replace(aside)
    except FileNotFoundError:
        return
    if aside.read_text(encoding="utf-8") != found:
        aside.replace(path)
        return
    aside.unlink()


def _is_stale(found: str, age_seconds: float) -> bool:
    owner = _owner(found)
    if owner is None:
        return age_seconds > _WRITING_SECONDS
    if owner.host != socket.gethostname():
        return age_seconds > LEASE_SECONDS
    return abs(_started(owner.pid) - owner.started) > _CLOCK_SECONDS


def _started(pid: int) -> float:
    """When a process started, in seconds since 1970; infinitely late if there is none, NaN if nobody may know."""
    try:
        return psutil.Process(pid).create_time()
    except psutil.NoSuchProcess:
        return float("inf")
    except psutil.AccessDenied:
        return float("nan")  # so it is there


def _owner(text: str) -> LockOwner | None:
    try:
        return LockOwner.model_validate_json(text)
    except ValidationError:
        return None


def _described(found: str, path: Path) -> str:
    owner = _owner(found)
    if owner is None:
        return f"another process has just begun to write here; wait for it, or remove {path} if there is none"
    advice = "wait for it, or end it"
    if owner.host != socket.gethostname():
        advice += f"; if it is no more, remove {path}, or wait {LEASE_SECONDS / 60:g} minutes"
    return f"process {owner.pid} on {owner.host} writes here ({owner.command}); {advice}"
