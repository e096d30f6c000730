"""Which file is in which format, by its ending and its content."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from moe_pipeline.errors import PromptError
from moe_pipeline.imaging.io.files import SUFFIXES, case_id_of, has_image_suffix
from moe_pipeline.prompts.annotations import Annotations
from moe_pipeline.prompts.formats import challenge_npz, napari_points, slicer_fcsv, slicer_markups
from moe_pipeline.prompts.formats.text import json_of
from moe_pipeline.records.names import composed
from moe_pipeline.records.prompts import ObjectPrompt, Space

OURS = "prompts.json"
"""Name of our own format."""
MASK = "mask"
"""Name of label maps as prompts."""


@dataclass(frozen=True, slots=True)
class Format:
    """A format with one file per case.

    Attributes:
        suffix: how its files end.
        space: of its points.
        read: gives what a file holds.
        write: writes objects of that space; None where we only read it.
    """

    suffix: str
    space: Space
    read: Callable[[Path], Annotations]
    write: Callable[[Path, Sequence[ObjectPrompt]], None] | None = None


FORMATS = {
    "mrk.json": Format(slicer_markups.SUFFIX, "world_lps_mm", slicer_markups.read, slicer_markups.write),
    "fcsv": Format(slicer_fcsv.SUFFIX, "world_lps_mm", slicer_fcsv.read, slicer_fcsv.write),
    "napari": Format(napari_points.SUFFIX, "array_zyx", napari_points.read, napari_points.write),
    "npz": Format(challenge_npz.SUFFIX, "array_zyx", challenge_npz.read),
}
"""By name; the longer of two endings first."""
_JSON = ".json"
ENDINGS = ", ".join([_JSON, *(kind.suffix for kind in FORMATS.values()), *SUFFIXES])


class OtherJson(PromptError):
    """A .json file that holds something else, such as the sidecar of an image."""


def format_of(path: Path) -> str | None:
    """Name of a file's format; None if its ending is none of ours.

    Raises:
        PromptError: if a .json file cannot be read.
        OtherJson: if it is neither ours nor 3D Slicer's.
    """
    name = path.name.lower()
    for kind, known in FORMATS.items():
        if name.endswith(known.suffix):
            return kind
    if has_image_suffix(path):
        return MASK
    return _json_format(path) if name.endswith(_JSON) else None


def case_of(path: Path, kind: str) -> str:
    """Name of a file without the ending of its format."""
    if kind == MASK:
        return case_id_of(path)
    suffix = FORMATS[kind].suffix if kind in FORMATS else _JSON
    return composed(path.name[: -len(suffix)] if path.name.lower().endswith(suffix) else path.stem)


def _json_format(path: Path) -> str:
    content = json_of(path)
    if isinstance(content, dict) and "markups" in content:
        return "mrk.json"
    if isinstance(content, dict) and content.keys() & {"space", "cases"}:
        return OURS
    raise OtherJson(f"{path}: neither prompts.json (space, cases) nor markups of 3D Slicer (markups)")
