"""Whole-or-nothing writing, and the hashes that tie one file to another."""

import csv
import hashlib
import io
import json
import os
import re
import shutil
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

_CHUNK_BYTES = 1 << 20
HOST = hashlib.sha256(socket.gethostname().encode()).hexdigest()[:8]
"""This machine, in names of files."""
_TEMPORARY = re.compile(r"\.moe-(\d+)-([0-9a-f]{8})\.(?:tmp|old)\.")
_FOREIGN_SECONDS = 2 * 24 * 3600.0  # after which what a process of another machine has left is of no use to it
_UMASK = os.umask(0)  # the only way to ask for it is to set it
os.umask(_UMASK)


@contextmanager
def atomic_path(final: Path) -> Iterator[Path]:
    """Yield a temporary path beside `final`; rename it to `final` when the block ends well, delete it otherwise.

    The temporary name keeps the suffix, because writers choose the format by it.
    """
    final.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_for(final)
    try:
        yield temporary
        _flush_to_disk(temporary)
        temporary.chmod(0o666 & ~_UMASK)  # some writers make private files; ours are for sharing
        temporary.replace(final)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(final: Path, check: Callable[[Path], None] | None = None) -> Iterator[Path]:
    """As `atomic_path`, for a folder. An existing `final` is replaced as a whole if `check` lets it.

    Args:
        final: the folder.
        check: looks at what stands there and raises if it must not be lost; without one nothing is replaced.

    Raises:
        FileExistsError: if something stands there and there is no check.
    """
    final.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_for(final)
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        yield temporary
        retired = final.with_name(f".moe-{os.getpid()}-{HOST}.old.{final.name}")
        if os.path.lexists(final):
            if check is None:
                raise FileExistsError(f"{final}: exists already")
            check(final)
            final.replace(retired)
        temporary.replace(final)
        shutil.rmtree(retired, ignore_errors=True)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def temporary_for(final: Path) -> Path:
    """Where this process writes a file or folder before it gets its name; nobody else names files so."""
    return final.with_name(f".moe-{os.getpid()}-{HOST}.tmp.{final.name}")


def append_line(path: Path, text: str) -> None:
    """Append a line in one piece, so that several processes can write to one file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rest = memoryview(f"\n{text}\n".encode())  # whatever was cut off before ends here
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    try:
        while rest:
            rest = rest[os.write(descriptor, rest) :]
    finally:
        os.close(descriptor)


def remove_leftovers(folder: Path) -> None:
    """Remove what processes that were killed have left half written in a folder.

    Whether a process of another machine still runs is not known here: what it wrote is removed when it is old.
    """
    for path in folder.glob(".*"):
        found = _TEMPORARY.match(path.name)
        if found is None or _is_in_use(path, int(found[1]), found[2]):
            continue
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _is_in_use(path: Path, pid: int, host: str) -> bool:
    if host == HOST:
        return psutil.pid_exists(pid)
    try:
        return time.time() - path.lstat().st_mtime < _FOREIGN_SECONDS
    except FileNotFoundError:
        return False


def is_file(path: Path) -> bool:
    """Whether there is such a file; not if its folder may not be entered: whoever lists the folder says so."""
    try:
        return path.is_file()
    except OSError:
        return False


def is_folder(path: Path) -> bool:
    """As `is_file`, for a folder."""
    try:
        return path.is_dir()
    except OSError:
        return False


def write_text(path: Path, text: str) -> None:
    """Write a text file as a whole."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def csv_text(columns: Sequence[str], rows: Iterable[Mapping[str, object]], digits: int | None = None) -> str:
    """A table as CSV: a header, then a line per row; None is an empty cell.

    Args:
        columns: in their order; each row has all of them and no others.
        rows: cells by column.
        digits: significant ones of fractional numbers; as many as tell them apart if not given.
    """
    stream = io.StringIO()
    writer = csv.DictWriter(stream, fieldnames=columns, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        if digits is not None:
            row = {name: f"{cell:.{digits}g}" if isinstance(cell, float) else cell for name, cell in row.items()}
        writer.writerow(row)
    return stream.getvalue()


def sha256_file(path: Path) -> str:
    """Hex sha256 of a file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def sha256_json(value: Any) -> str:
    """Hex sha256 of a JSON value, independent of the order of its keys."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _flush_to_disk(path: Path) -> None:
    with path.open("rb") as stream:
        os.fsync(stream.fileno())
