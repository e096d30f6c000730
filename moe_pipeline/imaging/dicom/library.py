"""pydicom and highdicom, loaded when they are needed: an extra that reading other formats does without."""

import importlib
import logging
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from moe_pipeline.errors import ImageError, PipelineError

_PREAMBLE_BYTES = 128
_PROBED_BYTES = 640
_FIRST_GROUPS = (b"\x08\x00", b"\x02\x00")  # what a file without preamble begins with
_MAX_UID_BYTES = 64
_STUMBLES = (
    *(ArithmeticError, AttributeError, EOFError, LookupError, NotImplementedError, OSError, TypeError, ValueError),
    struct.error,
)
"""What pydicom raises for bytes that are no proper header; for files that cannot be opened, `storage_class` does."""


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
    """Without its warnings: whatever of a header counts is checked here, and told with the name of the file."""
    warnings.filterwarnings("ignore", category=UserWarning, module=rf"{name}\.")
    logging.getLogger(name).setLevel(logging.ERROR)
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise PipelineError(
            f"DICOM needs {name}, which is not installed ({error}). Install it: pip install 'moe-pipeline[dicom]'"
        ) from error


def storage_class(path: Path) -> str | None:
    """UID of what kind of object a file says it stores, from its first bytes alone.

    Returns:
        Empty if it is DICOM and does not say so near its start; None if it does not begin like DICOM, with or without
        the usual preamble.
    """
    with path.open("rb") as stream:
        start = stream.read(_PROBED_BYTES)
    has_preamble = start[_PREAMBLE_BYTES : _PREAMBLE_BYTES + 4] == b"DICM"
    if not has_preamble and not (start[:2] in _FIRST_GROUPS and start[3:4] == b"\0"):
        return None
    for tag in (b"\x02\x00\x02\x00UI", b"\x08\x00\x16\x00UI"):
        found = start.find(tag)
        if found >= 0:
            length = min(int.from_bytes(start[found + 6 : found + 8], "little"), _MAX_UID_BYTES)
            return start[found + 8 : found + 8 + length].decode("ascii", "replace").rstrip("\0 ")
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
    library, is_known = pydicom(), storage_class(path) is not None
    with interpreting(path):
        dataset = library.dcmread(path, stop_before_pixels=not pixels, force=is_known)
        dataset.get("SOPClassUID")  # elements are interpreted when they are asked for
    return dataset


def text_of(dataset: Any, value: Any) -> str:
    """A name as it was meant, without blanks at its ends: many programs write UTF-8 and do not say so."""
    text = str(value or "").strip()
    if dataset.get("SpecificCharacterSet") or text.isascii():
        return text
    try:
        return text.encode("latin-1").decode("utf-8")
    except ValueError:
        return text


@contextmanager
def interpreting(path: Path) -> Iterator[None]:
    """Names the file where pydicom stumbles over a header that is damaged or breaks the standard.

    Raises:
        ImageError: for whatever pydicom raises then.
    """
    errors = pydicom().errors
    try:
        yield
    except (*_STUMBLES, errors.InvalidDicomError, errors.BytesLengthException) as error:
        reason = f"{type(error).__name__}: {error}"
        raise ImageError(f"{path}: no DICOM, or its header is damaged ({reason}). Export it again.") from error
