"""pydicom and highdicom, loaded when they are needed: an extra that reading other formats does without."""

import importlib
from pathlib import Path
from typing import Any

from moe_pipeline.errors import ImageError, PipelineError

_PREAMBLE_BYTES = 128
_IMPLICIT_STARTS = (b"\x08\x00", b"\x02\x00")  # group of the first element in a file without preamble
_MAX_UID_BYTES = 64


def pydicom() -> Any:
    """The module pydicom.

    Raises:
        PipelineError: if it is not installed; says how to.
    """
    return _load("pydicom")


def highdicom() -> Any:
    """The module highdicom.

    Raises:
        PipelineError: if it is not installed; says how to.
    """
    return _load("highdicom")


def _load(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise PipelineError(
            f"DICOM needs {name}, which is not installed ({error}). Install it: pip install 'moe-pipeline[dicom]'"
        ) from error


def is_dicom(path: Path) -> bool:
    """Whether a file begins like DICOM, with or without the usual preamble."""
    with path.open("rb") as stream:
        start = stream.read(_PREAMBLE_BYTES + 4)
    return start[_PREAMBLE_BYTES:] == b"DICM" or (start[:2] in _IMPLICIT_STARTS and start[3:4] == b"\0")


def storage_class(path: Path) -> str:
    """UID of what kind of object a DICOM file says it stores; empty if it says so nowhere near its start."""
    with path.open("rb") as stream:
        start = stream.read(_PREAMBLE_BYTES + 512)
    for tag in (b"\x02\x00\x02\x00UI", b"\x08\x00\x16\x00UI"):
        found = start.find(tag)
        if found >= 0:
            length = int.from_bytes(start[found + 6 : found + 8], "little")
            return start[found + 8 : found + 8 + min(length, _MAX_UID_BYTES)].decode("ascii", "replace").rstrip("\0 ")
    return ""


def read_dataset(path: Path, *, pixels: bool = False) -> Any:
    """A file as a pydicom dataset.

    Args:
        path: DICOM file, with or without preamble.
        pixels: whether to read the voxels, too.

    Raises:
        ImageError: if it is no DICOM, or damaged.
        PipelineError: if pydicom is not installed.
    """
    library = pydicom()
    try:
        dataset = library.dcmread(path, stop_before_pixels=not pixels, force=is_dicom(path))
        dataset.get("SOPClassUID")
    except (library.errors.InvalidDicomError, EOFError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise ImageError(f"{path}: not a readable DICOM file, or damaged: {error}. Export it again.") from error
    return dataset
