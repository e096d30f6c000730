"""Reading what somebody else packed: nothing leaves its folder, nothing can be run, nothing is larger than told."""

import re
import stat
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import IO, Protocol

from moe_pipeline.errors import PipelineError
from moe_pipeline.records.moe import MANIFEST, SharedFile

_PART = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")  # no hidden files, no drives, no "..", nothing a shell would read
_SUFFIXES = (".json", ".safetensors", ".png", ".csv", ".tokenizer")  # nothing that is unpickled or run
_OF_SYSTEMS = (".DS_Store", "Thumbs.db", "desktop.ini")
_CHUNK_BYTES = 1 << 20
_ENCRYPTED = 1  # bit of a zip entry's flags


class Archive(Protocol):
    """A zip file or a folder."""

    source: Path

    def names(self) -> list[str]:
        """Every file in it; raises PipelineError for links, duplicates and what cannot be unpacked."""

    def open(self, name: str) -> IO[bytes]:
        """A file of it."""


@contextmanager
def open_archive(source: Path) -> Iterator[Archive]:
    """A folder or zip file to read from.

    Raises:
        PipelineError: if it is neither, or the zip file is damaged, now or while it is read.
    """
    if source.is_dir():
        yield _Repacked(_Folder(source))
        return
    if not source.is_file():
        raise PipelineError(f"{source}: no such file or folder; expected what `moe export` wrote")
    try:
        with zipfile.ZipFile(source) as archive:
            yield _Repacked(_Zip(source, archive))
    except (zipfile.BadZipFile, EOFError, zlib.error) as error:
        raise PipelineError(f"{source}: no readable zip file ({error}); get it again") from error


def is_plain(part: str) -> bool:
    """Whether a name is one plain part of a path."""
    return _PART.fullmatch(part) is not None


def safe_name(name: str, source: Path) -> str:
    """A path that stays inside the folder, of a kind that is only read.

    Args:
        name: path with forward slashes.
        source: archive it is from, for messages.

    Raises:
        PipelineError: if it is not.
    """
    if not all(is_plain(part) for part in name.split("/")):
        raise PipelineError(
            f"{source}: refused, the path {name!r} could leave the model's folder; do not use this file"
        )
    if not name.endswith(_SUFFIXES):
        raise PipelineError(
            f"{source}: refused, {name!r} is no {', '.join(_SUFFIXES)} file, and an exported model holds no other; do "
            "not use this file, or take it out if you know what it is"
        )
    return name


def copy_checked(archive: Archive, name: str, expected: SharedFile, target: Path) -> None:
    """Copy one file, but no more than was announced.

    Raises:
        PipelineError: if size or hash differ.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    digest, n_bytes = sha256(), 0
    with archive.open(name) as stream, target.open("wb") as copy:
        while (chunk := stream.read(_CHUNK_BYTES)) and n_bytes <= expected.n_bytes:  # stops where a bomb goes on
            digest.update(chunk)
            n_bytes += len(chunk)
            copy.write(chunk)
    if (n_bytes, digest.hexdigest()) != (expected.n_bytes, expected.sha256):
        raise PipelineError(
            f"{archive.source}: {name} has {n_bytes} bytes and sha256 {digest.hexdigest()[:12]}, its manifest says "
            f"{expected.n_bytes} and {expected.sha256[:12]}; get it again"
        )


class _Repacked:
    """An archive without what is added where it is packed again: files of the system, one folder around everything.

    Args:
        inner: as it is.
    """

    def __init__(self, inner: Archive) -> None:
        self.source = inner.source
        self._inner = inner
        own = [name for name in inner.names() if not _is_of_a_system(name)]
        tops = {name.partition("/")[0] for name in own}
        top = next(iter(tops)) if len(tops) == 1 else ""
        self._top = f"{top}/" if is_plain(top) and f"{top}/{MANIFEST}" in own else ""
        self._names = [name.removeprefix(self._top) for name in own]

    def names(self) -> list[str]:
        return self._names

    def open(self, name: str) -> IO[bytes]:
        return self._inner.open(self._top + name)


def _is_of_a_system(name: str) -> bool:
    """Whether macOS or Windows adds such a file; it is passed over, whatever it holds."""
    return name.startswith("__MACOSX/") or name.rpartition("/")[2].startswith("._") or name.endswith(_OF_SYSTEMS)


class _Folder:
    def __init__(self, source: Path) -> None:
        self.source = source

    def names(self) -> list[str]:
        paths = list(self.source.rglob("*"))
        links = [path for path in paths if path.is_symlink()]
        if links:
            raise PipelineError(f"{links[0]}: is a link; an exported model has none")
        return [path.relative_to(self.source).as_posix() for path in paths if path.is_file()]

    def open(self, name: str) -> IO[bytes]:
        return (self.source / name).open("rb")


class _Zip:
    def __init__(self, source: Path, archive: zipfile.ZipFile) -> None:
        self.source = source
        self.archive = archive

    def names(self) -> list[str]:
        entries = [entry for entry in self.archive.infolist() if not entry.is_dir()]
        names = [entry.filename for entry in entries]
        faults = [f"{name} twice" for name in sorted(set(names)) if names.count(name) > 1]
        for entry in entries:
            if stat.S_ISLNK(entry.external_attr >> 16):
                faults.append(f"the link {entry.filename}")
            if entry.flag_bits & _ENCRYPTED or entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                faults.append(f"{entry.filename} encrypted or in a rare compression")
        if faults:
            raise PipelineError(f"{self.source}: holds {faults[0]}; an exported model does not")
        return names

    def open(self, name: str) -> IO[bytes]:
        return self.archive.open(name)
