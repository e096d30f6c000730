"""A unit of work, and the files that say what has become of it.

Names are hashes of what goes in, and whatever is written gets its name by a rename: two workers that do one unit at
the same time, because one of them was thought lost, write the same bytes under the same name. So there are no locks.
"""

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, TypeVar

from pydantic import ValidationError

from moe_pipeline.cluster.records import UnitRecord
from moe_pipeline.files import HOST, remove_leftovers, sha256_json, write_text
from moe_pipeline.journal.written import Written

ItemT = TypeVar("ItemT")

SLURM = "slurm"
"""Folder of what SLURM needs and says."""
JOBS = "jobs.jsonl"
"""Jobs in SLURM's queue."""
_ENDED = ".json"
_NOTES = ".notes"
_LONGEST = 80  # characters of a name that are kept, for people


@dataclass(frozen=True, slots=True)
class Unit(Generic[ItemT]):
    """One piece of work that can be done anywhere, and again."""

    name: str
    """For people; a file name."""
    item: ItemT
    """What the work gets. It is sent to a worker, so it is small."""
    inputs: str
    """Hash of everything that the outcome depends on."""

    @property
    def key(self) -> str:
        """Name of its files: of the same inputs the same."""
        return f"{self.name[:_LONGEST]}.{sha256_json([self.name, self.inputs])[:16]}"


@dataclass(frozen=True, slots=True)
class Board:
    """The folder in which workers say what has become of units."""

    folder: Path
    logs: Path = field(init=False)
    """One file for each unit that had something to say."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "logs", self.folder / "logs")

    def ended(self) -> set[str]:
        """Keys of all units that have ended; one listing of the folder."""
        if not self.folder.is_dir():
            return set()
        names = (entry.name for entry in os.scandir(self.folder))
        return {name.removesuffix(_ENDED) for name in names if name.endswith(_ENDED) and not name.startswith(".")}

    def record(self, key: str) -> UnitRecord | None:
        """What has become of a unit; None if it has not ended."""
        try:
            return UnitRecord.model_validate_json((self.folder / f"{key}{_ENDED}").read_bytes())
        except (FileNotFoundError, ValidationError):
            return None

    def write(self, key: str, record: UnitRecord) -> None:
        """Say what has become of a unit."""
        write_text(self.folder / f"{key}{_ENDED}", record.model_dump_json())

    def notes(self, key: str) -> Path:
        """Where this process notes the files that it writes for a unit: nobody else writes there."""
        return self.folder / f"{key}.{HOST}-{os.getpid()}{_NOTES}"

    def take_notes(self, take: Callable[[Path], None], record: UnitRecord | None = None) -> None:
        """Hand over what all workers have noted so far; or of a unit that has ended, and forget its notes."""
        if record is None:
            for path in _notes_in(self.folder, ""):
                take(path)
        elif record.notes and (path := self.folder / record.notes).is_file():
            take(path)
            path.unlink()

    def log(self, key: str) -> Path:
        """Where a unit says what it has to say."""
        return self.logs / f"{key}.log"

    def drop(self, key: str) -> None:
        """Forget a unit whose outcome is kept elsewhere."""
        (self.folder / f"{key}{_ENDED}").unlink(missing_ok=True)

    def close(self, *, keep_done: bool = False) -> None:
        """Forget units, as the command has come to its end: what failed may be tried again. Logs stay.

        Args:
            keep_done: still know what is done, where nothing else says so.
        """
        if not self.folder.is_dir():
            return
        remove_leftovers(self.folder)
        for key in self.ended():
            record = self.record(key) if keep_done else None
            if record is None or record.status != "done":
                self.drop(key)
        for path in (
            *_notes_in(self.folder, ""),
            *self.folder.glob(f"{SLURM}/*.pkl"),
            *self.folder.glob(f"{SLURM}/*.sh"),
            self.folder / JOBS,
        ):
            path.unlink(missing_ok=True)
        for folder in (self.logs, self.folder):
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()


def stat_of(paths: Iterable[Path]) -> list[tuple[str, int, int]]:
    """Names, sizes and times of files: a quick test for the same content, where a wrong no costs little."""
    stats = [(str(path), path.stat()) for path in paths if path.is_file()]
    return [(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats]


def noting(own: Written, notes: Path) -> Written:
    """What is ours in an output folder, for a worker that writes some of its files.

    Args:
        own: what the command knows.
        notes: where this worker notes what it writes.
    """
    part, unit = own.apart(notes), notes.name.rsplit(".", 2)[0] + "."

    def ask() -> None:  # what another worker at this unit has written meanwhile, that was lost or only thought lost
        for path in _notes_in(notes.parent, unit):
            part.take(path)

    part.ask = ask
    return part


def _notes_in(folder: Path, start: str) -> list[Path]:
    entries = os.scandir(folder) if folder.is_dir() else ()
    return [Path(entry.path) for entry in entries if entry.name.startswith(start) and entry.name.endswith(_NOTES)]
