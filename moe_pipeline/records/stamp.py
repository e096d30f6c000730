"""Whether an input file is still the one that was read."""

from pathlib import Path
from typing import Self

from pydantic import Field

from moe_pipeline.files import sha256_file
from moe_pipeline.records.base import Part


class FileStamp(Part):
    """Identity of one input file."""

    path: str
    """Relative to the dataset folder where it lies inside."""
    size_bytes: int = Field(ge=0)
    """Length of the file."""
    mtime_ns: int
    """Time of the last change; with the size, the quick test for the same content."""
    sha256: str
    """Hash of its bytes, the slow one."""

    @classmethod
    def of(cls, path: Path, folder: Path) -> Self:
        """A file of a dataset folder as it is now."""
        status = path.stat()
        return cls(
            path=_name(path, folder),
            size_bytes=status.st_size,
            mtime_ns=status.st_mtime_ns,
            sha256=sha256_file(path),
        )

    def fits(self, path: Path, folder: Path) -> bool:
        """Whether it is the same file with the same content; reads it only if its time alone has changed."""
        status = path.stat()
        if self.path != _name(path, folder) or self.size_bytes != status.st_size:
            return False
        return self.mtime_ns == status.st_mtime_ns or self.sha256 == sha256_file(path)


def _name(path: Path, folder: Path) -> str:
    return (path.relative_to(folder) if path.is_relative_to(folder) else path).as_posix()
