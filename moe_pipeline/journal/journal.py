"""What was found out about single cases, kept as it is found out, so that a killed run goes on where it stopped.

One line of JSON per case. A line that was cut off by a crash is no JSON and is ignored; later lines replace earlier
ones. A line holds as long as the files of the case, and what they were checked against, are the same.
"""

from collections.abc import Sequence
from pathlib import Path
from threading import Lock
from typing import Generic, Protocol, Self, TypeVar

from pydantic import ValidationError

from moe_pipeline.files import append_line
from moe_pipeline.records.stamp import FileStamp


class Line(Protocol):
    """A record of one case."""

    @property
    def case_id(self) -> str:
        """Which case."""

    @property
    def description_sha256(self) -> str:
        """Hash of what it was checked against."""

    @property
    def files(self) -> tuple[FileStamp, ...]:
        """The files it rests on."""

    @classmethod
    def model_validate_json(cls, json_data: str) -> Self:
        """From a line of text."""

    def model_dump_json(self) -> str:
        """To a line of text."""


LineT = TypeVar("LineT", bound=Line)


class Journal(Generic[LineT]):
    """The lines of one folder of files; safe to use from several threads."""

    def __init__(self, path: Path, model: type[LineT], folder: Path, description_sha256: str) -> None:
        self.path = path
        """The file of lines."""
        self._folder, self._model = folder, model
        self._description = description_sha256
        self.known = _read(path, model)
        """The last line of each case, whether it holds or not."""
        self._lock = Lock()

    def find(self, case_id: str, files: Sequence[Path]) -> LineT | None:
        """The line of a case if it still holds."""
        line = self.known.get(case_id)
        if line is None or line.description_sha256 != self._description or len(line.files) != len(files):
            return None
        try:
            fits = all(stamp.fits(path, self._folder) for stamp, path in zip(line.files, files, strict=True))
        except OSError:
            return None  # a file is gone, or closed
        return line if fits else None

    def stamp(self, files: Sequence[Path]) -> tuple[FileStamp, ...]:
        """Files as they are now; to be taken before they are read."""
        return tuple(FileStamp.of(path, self._folder) for path in files)

    def take(self, path: Path) -> None:
        """Append the lines that a worker has written elsewhere."""
        for line in _read(path, self._model).values():
            if self.known.get(line.case_id) != line:
                self.add(line)

    def add(self, line: LineT) -> None:
        """Append a line."""
        with self._lock:
            append_line(self.path, line.model_dump_json())
            self.known[line.case_id] = line


def _read(path: Path, model: type[LineT]) -> dict[str, LineT]:
    known: dict[str, LineT] = {}
    if path.is_file():
        for text in path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                line = model.model_validate_json(text)
            except ValidationError:
                continue  # cut off, or written by another version
            known[line.case_id] = line
    return known
