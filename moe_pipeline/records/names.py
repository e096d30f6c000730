"""Names from outside that become file names: case ids. Checked once, where cases are made."""

import unicodedata
from pathlib import PureWindowsPath

from moe_pipeline.errors import DatasetError

MAX_NAME_BYTES = 200
"""File names may have 255; channel, ending and a temporary name need their part."""
_MAX_SHOWN = 60
_RESERVED = {"con", "prn", "aux", "nul", *(f"{port}{number}" for port in ("com", "lpt") for number in range(1, 10))}
_NOT_PRINTED = ("Cc", "Cs", "Zl", "Zp")  # control characters, halves of characters, ends of lines


def composed(name: str) -> str:
    """A name in Unicode's composed form: an umlaut may be one character or two, and copying to a Mac changes it."""
    return unicodedata.normalize("NFC", name)


def fault_of_name(name: str) -> str | None:
    """Why a text cannot be the name of files on every system; None if it can."""
    if not name.strip():
        return "it is empty"
    if any(unicodedata.category(character) in _NOT_PRINTED for character in name):
        return "it holds control characters"
    if "/" in name or "\\" in name or PureWindowsPath(name).drive:
        return "it is a path"
    if name.startswith("."):
        return "it begins with a dot"
    if name.partition(".")[0].strip().lower() in _RESERVED:
        return "Windows keeps it for a device"
    if (size := len(name.encode())) > MAX_NAME_BYTES:
        return f"it has {size} bytes, at most {MAX_NAME_BYTES} fit into a file name"
    return None


def check_name(name: str, where: str) -> None:
    """Refuse a name that cannot be one of files.

    Args:
        name: as found.
        where: file and key, such as `dataset.json: key dataset`.

    Raises:
        DatasetError: names both, the fault, and what to do.
    """
    if fault := fault_of_name(name):
        raise DatasetError(f"{where}: {shown(name)} cannot be a case id: {fault}; rename it, such as case_001")


def fault_of_title(title: str) -> str | None:
    """Why a text cannot be the name of a class, which is no file name; None if it can."""
    if not title.strip():
        return "it is empty"
    if any(unicodedata.category(character) in _NOT_PRINTED for character in title):
        return "it holds control characters"
    return f"it has more than {MAX_NAME_BYTES} letters" if len(title) > MAX_NAME_BYTES else None


def printable(name: str) -> str:
    """A name as it is, unless it would do something to the terminal: line breaks, escape sequences."""
    return ascii(name) if any(unicodedata.category(one) in _NOT_PRINTED for one in name) else name


def shown(name: str) -> str:
    """A name as it can be printed: in quotes, short, nothing hidden."""
    return ascii(name) if len(name) <= _MAX_SHOWN else f"{name[:_MAX_SHOWN]!a}..."


def joined(text: str) -> str:
    """A path over several folders as one name: a/b becomes a_b."""
    return text.replace("\\", "/").replace("/", "_")
