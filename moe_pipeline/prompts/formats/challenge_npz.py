"""Archives of the CVPR 2024 and 2025 challenges and of MedSAM: .npz with clicks and boxes, an entry for each class.

`clicks`: per class {"fg": [[z, y, x], ...], "bg": [...]}. `boxes`: per class {"z_min", "z_max", "z_mid", "z_mid_x_min",
"z_mid_y_min", "z_mid_x_max", "z_mid_y_max"}, ends included, or a row x_min, y_min, z_min, x_max, y_max, z_max. The
first entry is class 1. Indices are those of the array `imgs`, which is the image file's as SimpleITK gives it.
"""

import zipfile
from pathlib import Path
from typing import Any

from pydantic import FiniteFloat, TypeAdapter, ValidationError

from moe_pipeline.errors import PromptError
from moe_pipeline.prompts.annotations import Annotation, Annotations
from moe_pipeline.prompts.formats.plain_pickle import read_plain
from moe_pipeline.prompts.label_syntax import ParsedLabel
from moe_pipeline.records.prompts import Point

SUFFIX = ".npz"

_CLICKS, _BOXES = "clicks", "boxes"
_CORNERS = (("z_min", "z_mid_y_min", "z_mid_x_min"), ("z_max", "z_mid_y_max", "z_mid_x_max"))
_PLACES = TypeAdapter(list[Point])
_ROW = TypeAdapter(tuple[FiniteFloat, FiniteFloat, FiniteFloat, FiniteFloat, FiniteFloat, FiniteFloat])


def read(path: Path) -> Annotations:
    """Clicks and boxes of every class.

    Raises:
        PromptError: if it is no such archive, or holds Python objects that are no lists, dicts and numbers.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = {name.removesuffix(".npy") for name in archive.namelist()}
            arrays = {name: read_plain(archive, name, str(path)) for name in (_CLICKS, _BOXES) if name in names}
    except (
        zipfile.BadZipFile,
        RuntimeError,
        OSError,
    ) as error:  # RuntimeError: it wants a password; OSError: no such place
        raise PromptError(f"{path}: damaged or truncated archive ({error}). Copy it again.") from error
    if not arrays:
        raise PromptError(f"{path}: expected an array clicks or boxes, found {', '.join(sorted(names)) or 'none'}")
    try:
        annotations = [annotation for box in _entries(arrays, _BOXES) for annotation in _box(*box)]
        annotations += [annotation for clicks in _entries(arrays, _CLICKS) for annotation in _clicks(*clicks)]
    except (ValidationError, KeyError, TypeError, AttributeError) as error:
        fault = error.errors()[0]["msg"] if isinstance(error, ValidationError) else repr(error)
        raise PromptError(
            f"{path}: clicks or boxes are not laid out as the challenge lays them out: {fault}"
        ) from error
    if not annotations:
        raise PromptError(f"{path}: its clicks and boxes are empty")
    return Annotations("array_zyx", tuple(annotations))


def _entries(arrays: dict[str, Any], name: str) -> list[tuple[int, Any]]:
    return list(enumerate(arrays.get(name, []), start=1))


def _clicks(class_id: int, entry: dict[str, Any]) -> list[Annotation]:
    return [
        Annotation(ParsedLabel(class_id, "", inside=inside), place=place)
        for key, inside in (("fg", True), ("bg", False))
        for place in _PLACES.validate_python(entry[key])
    ]


def _box(class_id: int, entry: dict[str, Any] | list[Any]) -> list[Annotation]:
    if isinstance(entry, dict):
        first, last = _PLACES.validate_python([[entry[key] for key in corner] for corner in _CORNERS])
    else:
        x, y, z, x_end, y_end, z_end = _ROW.validate_python(entry)
        first, last = (z, y, x), (z_end, y_end, x_end)
    return [Annotation(ParsedLabel(class_id, ""), box=(first, last))]
