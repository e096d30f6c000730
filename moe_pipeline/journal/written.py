"""Which files of a folder are ours, by their hashes: nothing else in it is ever replaced or removed.

A line is appended before its file gets its name, so that a killed run leaves no file that we would not know again.
"""

import json
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from pathlib import Path, PurePosixPath

from pydantic import Field, ValidationError

from moe_pipeline.errors import PipelineError
from moe_pipeline.files import append_line, sha256_file, temporary_for, write_text
from moe_pipeline.records.base import Part

_MAX_LISTED = 5
_log = logging.getLogger(__name__)


class WrittenFile(Part):
    """One line: a file that we wrote, as it was then."""

    file: str
    """Relative to the folder."""
    size_bytes: int = Field(ge=0)
    """Length of the file."""
    sha256: str
    """Hash of its bytes."""


class Written:
    """What we have written into the folder of a journal. It can be sent to another process.

    Args:
        journal: file of JSON lines, which may hold lines of other kinds, too.
        also: files that another record lists as ours.

    Raises:
        PipelineError: if a file of that name is there that is no journal of ours.
    """

    def __init__(self, journal: Path, also: Iterable[WrittenFile] = ()) -> None:
        self.folder = journal.parent
        self._journal = journal
        self._known: dict[str, set[tuple[int, str]]] = {}
        self._inside: dict[str, set[str]] = {}
        self.ask: Callable[[], None] | None = None
        """Asked, before a file is called foreign, to note what others have written meanwhile."""
        for line in (*also, *_lines(journal)):
            self._remember(line)

    def __contains__(self, name: str) -> bool:
        """Whether a file of this name was ever written."""
        return name in self._known

    def only(self, names: Iterable[str]) -> "Written":
        """The same, knowing some files alone: small enough to be sent to a worker."""
        part = copy(self)
        part.ask = None
        part._known = {name: self._known[name] for name in names if name in self._known}
        part._inside = {}
        for name in part._known:
            part._inside.setdefault(PurePosixPath(name).parent.as_posix(), set()).add(name)
        return part

    def apart(self, journal: Path) -> "Written":
        """The same, noting what is written in another journal, which nobody else writes to."""
        part = copy(self)
        part._journal = journal
        return part

    def take(self, journal: Path) -> None:
        """Note what a worker has noted in a journal of its own, as far as it is whole."""
        for text in journal.read_text(encoding="utf-8", errors="replace").splitlines():
            if (line := _line(text)) is not None:
                self._note(line)

    def names_in(self, subfolder: str) -> list[str]:
        """Files that were ever written directly into a subfolder."""
        return sorted(self._inside.get(subfolder, ()))

    def has_length(self, name: str, size_bytes: int) -> bool:
        """Whether we ever wrote a file of this name and length."""
        return any(size_bytes == of for of, _ in self._known.get(name, ()))

    def is_foreign(self, name: str) -> bool:
        """Whether something stands there that is not as we left it."""
        foreign = self._seems_foreign(name)
        if foreign and self.ask is not None:
            self.ask()
            return self._seems_foreign(name)
        return foreign

    def _seems_foreign(self, name: str) -> bool:
        path = self.folder / name
        if not os.path.lexists(path):
            return False
        if path.is_symlink() or not path.is_file():
            return True
        size = path.stat().st_size
        known = self._known.get(name, set())
        return all(size != of for of, _ in known) or (size, sha256_file(path)) not in known

    def check(self, names: Iterable[str], reads: Sequence[Path] = ()) -> None:
        """Refuse to begin if one of these files could not be written without a loss.

        Args:
            names: relative to the folder, all that may be written or removed.
            reads: files and folders that are read; what lies in them is never written to, not even if it is ours.

        Raises:
            PipelineError: names what stands in the way.
        """
        names = list(names)
        if read := [name for name in names if self._is_read(name, reads)]:
            raise PipelineError(
                f"{_listed(self.folder, read)}: would be replaced, but is one of the inputs, which are never written "
                "to; give another output folder (-o)"
            )
        if foreign := [name for name in names if self.is_foreign(name)]:
            raise PipelineError(
                f"{_listed(self.folder, foreign)}: is in the way and was not written by moe, or was changed since; "
                "give another output folder (-o or --out), or move it away"
            )

    @contextmanager
    def writing(self, name: str) -> Iterator[Path]:
        """Yield a temporary path; what is written there as a whole gets its name when the block ends well.

        Raises:
            PipelineError: if something stands there that is not ours.
        """
        final = self.folder / name
        final.parent.mkdir(parents=True, exist_ok=True)
        temporary = temporary_for(final)
        try:
            yield temporary
            line = WrittenFile(file=name, size_bytes=temporary.stat().st_size, sha256=sha256_file(temporary))
            self.check([name])
            self._note(line)
            temporary.replace(final)
        finally:
            temporary.unlink(missing_ok=True)

    def write_text(self, name: str, text: str) -> None:
        """Write a text file as a whole; raises as `writing`."""
        with self.writing(name) as temporary:
            write_text(temporary, text)

    def write_over(self, name: str, text: str, *, carried_over: bool = False) -> None:
        """As `write_text`, where users may edit what we write: what is not as we left it is set aside first.

        Args:
            name: relative to the folder.
            text: its new content.
            carried_over: whether all that counts of what stands there is in the text.
        """
        if carried_over and (self.folder / name).is_file():
            self.adopt([name])
        elif self.is_foreign(name):
            set_aside(self.folder / name, "it was changed since it was written, or is none of ours")
        self.write_text(name, text)

    def remove(self, name: str) -> None:
        """Remove a file if it is ours and as we left it."""
        if name in self._known and not self.is_foreign(name):
            (self.folder / name).unlink(missing_ok=True)

    def adopt(self, names: Iterable[str]) -> None:
        """Note files that were just written by other means."""
        for name in names:
            path = self.folder / name
            self._note(WrittenFile(file=name, size_bytes=path.stat().st_size, sha256=sha256_file(path)))

    def expect(self, names: Iterable[str], staged: Path) -> None:
        """Note files that are about to be moved here from another folder, by the same names."""
        for name in names:
            path = staged / name
            self._note(WrittenFile(file=name, size_bytes=path.stat().st_size, sha256=sha256_file(path)))

    def check_all(self) -> None:
        """Refuse to replace the folder if it holds anything that is not ours.

        Raises:
            PipelineError: names what would be lost.
        """
        found = files_below(self.folder) if self.folder.is_dir() and not self.folder.is_symlink() else ["."]
        foreign = [name for name in found if name != self._journal.name and self.is_foreign(name)]
        if foreign:
            raise PipelineError(
                f"{_listed(self.folder, foreign)}: would be lost, but was not written by moe, or was changed since; "
                "give another place, or move it away"
            )

    def _note(self, line: WrittenFile) -> None:
        if (line.size_bytes, line.sha256) in self._known.get(line.file, ()):
            return
        append_line(self._journal, line.model_dump_json())
        self._remember(line)

    def _remember(self, line: WrittenFile) -> None:
        self._known.setdefault(line.file, set()).add((line.size_bytes, line.sha256))
        self._inside.setdefault(PurePosixPath(line.file).parent.as_posix(), set()).add(line.file)

    def _is_read(self, name: str, reads: Sequence[Path]) -> bool:
        """Whether a file that exists is one that is read; a folder that is read may hold the output folder."""
        path = self.folder / name
        if not os.path.lexists(path):
            return False
        own, there = self.folder.resolve(), path.resolve()
        for read in (one.resolve() for one in reads):
            inside = there == read or read in there.parents
            if inside and not (read in own.parents and own in there.parents):
                return True
        return False


def files_below(folder: Path) -> list[str]:
    """Everything in a folder that is no folder, relative to it, links as what they are."""
    paths = (path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir())
    return sorted(path.relative_to(folder).as_posix() for path in paths)


def set_aside(path: Path, why: str) -> Path:
    """Give a file that has to make room a name that nothing has: plan.previous.json, plan.previous2.json, ...

    Args:
        path: of the file.
        why: for the log.

    Returns:
        Its new path.
    """
    stem, dot, ending = path.name.partition(".")
    names = (f"{stem}.previous{number or ''}{dot}{ending}" for number in (0, *range(2, 1 << 16)))
    free = next(one for name in names if not os.path.lexists(one := path.with_name(name)))
    path.rename(free)
    _log.warning("%s: %s; it is replaced and kept as %s", path, why, free.name)
    return free


def refuse_existing(path: Path) -> None:
    """Refuse to write a file of which no record says whether it is ours.

    Raises:
        PipelineError: if something stands there.
    """
    if os.path.lexists(path):
        raise PipelineError(f"{path}: exists already; give another output (-o), or move it away")


def refuse_inputs(out: Path, reads: Iterable[Path]) -> None:
    """Refuse an output folder that is one of the inputs.

    Raises:
        PipelineError: if it is.
    """
    for folder in reads:
        if folder.resolve() == out.resolve():
            raise PipelineError(f"{out}: is one of the inputs, which are never written to; give another output folder")


def refuse_unwritable(folder: Path) -> None:
    """Refuse an output folder that is a file, or that nothing can be written into; before any work is done.

    Raises:
        PipelineError: says which.
    """
    there = next(path for path in (folder, *folder.resolve().parents) if os.path.lexists(path))
    if not there.is_dir():
        raise PipelineError(f"{there}: is no folder, but the output is to be written into it; give another one (-o)")
    if not os.access(there, os.W_OK | os.X_OK):
        raise PipelineError(
            f"{there}: nothing may be written into this folder; give another one (-o), or its permission"
        )


def _lines(journal: Path) -> list[WrittenFile]:
    if not os.path.lexists(journal):
        return []
    texts = journal.read_text(encoding="utf-8", errors="replace").splitlines() if journal.is_file() else []
    found = [line for text in texts if (line := _line(text)) is not None]
    if not found and not any(_is_ours(text) for text in texts):
        raise PipelineError(
            f"{journal}: is in the way and was not written by moe; give another output folder (-o or --out), or move "
            "it away"
        )
    return found


def _line(text: str) -> WrittenFile | None:
    try:
        line = WrittenFile.model_validate_json(text)
    except ValidationError:
        return None  # cut off, or of another kind
    parts = PurePosixPath(line.file).parts
    return None if ".." in parts or parts[:1] == ("/",) else line  # nothing outside of the folder is ours


def _is_ours(text: str) -> bool:
    """Whether a line is one of a finished case, of whatever version."""
    try:
        content = json.loads(text)
    except ValueError:
        return False
    return isinstance(content, dict) and {"case_id", "description_sha256"} <= content.keys()


def _listed(folder: Path, names: Sequence[str]) -> str:
    more = f" and {len(names) - _MAX_LISTED} more" if len(names) > _MAX_LISTED else ""
    return ", ".join(str(folder / name) for name in names[:_MAX_LISTED]) + more
