"""Segmentations of 3D Slicer, each with numbers of its own: what counts is the names of the segments."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from moe_pipeline.imaging.io.nrrd_segments import NamedSegment, named_segments

_MAX_LISTED = 3


@dataclass(frozen=True, slots=True)
class SegmentsByName:
    """What the files of a dataset name."""

    labels: dict[str, int] | None = None
    """Name to value in the dataset, background included; None if no file names anything."""
    values: dict[Path, dict[int, int]] = field(default_factory=dict)
    """For each file whose values are others, its own values to those of the dataset."""
    faults: dict[Path, str] = field(default_factory=dict)
    """Why files cannot be used."""
    notes: tuple[str, ...] = ()
    """What was done about it."""


def segments_by_name(paths: Sequence[Path]) -> SegmentsByName:
    """Classes by the names in the headers of label files; values are kept where all files have the same."""
    found = {path: segments for path in paths if (segments := named_segments(path))}
    if not found:
        return SegmentsByName()
    faults = {path: why for path, segments in found.items() if (why := _fault(path, segments))}
    names_less = {path: f"{path.name}: names no segments in its header, as others do" for path in paths}
    faults |= {path: why for path, why in names_less.items() if path not in found}
    good = {path: segments for path, segments in found.items() if path not in faults}
    pairs = {(one.name, one.value) for segments in good.values() for one in segments}
    names = sorted({name for name, _ in pairs})
    if len(pairs) == len(names) == len({value for _, value in pairs}):
        return SegmentsByName({"background": 0} | dict(sorted(pairs, key=lambda pair: pair[1])), {}, faults)
    labels = {"background": 0} | {name: value for value, name in enumerate(names, start=1)}
    values = {path: {one.value: labels[one.name] for one in segments} for path, segments in good.items()}
    note = "label files number their segments differently; classes go by the names of the segments"
    return SegmentsByName(labels, values, faults, (note,))


def _fault(path: Path, segments: Sequence[NamedSegment]) -> str:
    if any(one.layer for one in segments):
        listed = ", ".join(one.name for one in segments[:_MAX_LISTED])
        return (
            f"{path.name}: segments overlap ({listed} lie in several layers), which a label map cannot hold. In 3D "
            "Slicer, export them as one label map, or each into a file of its own"
        )
    for key in ("name", "value"):
        counts = Counter(getattr(one, key) for one in segments)
        if doubled := [str(value) for value, n in counts.items() if n > 1]:
            return f"{path.name}: several segments have the {key} {', '.join(doubled)}; give each its own"
    return "background is the name of a segment" if any(one.name == "background" for one in segments) else ""
