"""Names that 3D Slicer keeps in the header of a segmentation (.seg.nrrd), whose numbers are the order of drawing."""

import re
from dataclasses import dataclass
from pathlib import Path

_LONGEST_HEADER = 1 << 20
_KEY = re.compile(r"Segment(?P<number>\d+)_(?P<key>Name|LabelValue|Layer):=(?P<text>.*)")

_SPACE = re.compile(
    r"space:\s*((left|right)-(anterior|posterior)-(superior|inferior)(-time)?|[LR][AP][SI]T?)", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class NamedSegment:
    """One segment."""

    name: str
    value: int
    """In the voxels."""
    layer: int
    """Of several volumes in one file, where segments overlap."""


def named_segments(path: Path) -> tuple[NamedSegment, ...]:
    """The segments that the header of a .nrrd file names; none for other files."""
    found: dict[int, dict[str, str]] = {}
    for line in _header(path):
        if match := _KEY.fullmatch(line.strip()):
            found.setdefault(int(match["number"]), {})[match["key"]] = match["text"].strip()
    return tuple(
        NamedSegment(one["Name"], int(one["LabelValue"]), int(one.get("Layer") or 0))
        for _, one in sorted(found.items())
        if one.get("Name") and one.get("LabelValue", "").isdecimal() and (one.get("Layer") or "0").isdecimal()
    )


def has_anatomical_space(path: Path) -> bool:
    """Whether a header says where left is; also true for other files than .nrrd."""
    return not path.name.lower().endswith(".nrrd") or any(_SPACE.fullmatch(line.strip()) for line in _header(path))


def _header(path: Path) -> list[str]:
    if not path.name.lower().endswith(".nrrd"):
        return []
    try:
        with path.open("rb") as stream:
            header = stream.read(_LONGEST_HEADER).split(b"\n\n", 1)[0].split(b"\r\n\r\n", 1)[0]
    except OSError:
        return []  # who reads the voxels says so
    return header.decode("utf-8", "replace").splitlines()
