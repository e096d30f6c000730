"""3D Slicer's markups: .mrk.json with point lists and regions of interest."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, TypeAdapter, ValidationError

from moe_pipeline.errors import PromptError
from moe_pipeline.files import write_text
from moe_pipeline.prompts.annotations import Annotation, Annotations
from moe_pipeline.prompts.formats.text import json_of
from moe_pipeline.prompts.label_syntax import format_label, parse_label
from moe_pipeline.prompts.prompt import corners
from moe_pipeline.records.prompts import ObjectPrompt, Point

SUFFIX = ".mrk.json"

_SCHEMA = (
    "https://raw.githubusercontent.com/slicer/slicer/master/Modules/Loadable/Markups/Resources/Schema/"
    "markups-schema-v1.0.3.json#"
)
_FLIPS = {"LPS": np.array([1.0, 1.0, 1.0]), "RAS": np.array([-1.0, -1.0, 1.0])}


class _Foreign(BaseModel):
    """A piece of somebody else's file: what we do not need may be there."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class _ControlPoint(_Foreign):
    label: str = ""
    description: str = ""
    position: Annotated[list[FiniteFloat], Field(min_length=3, max_length=3)] | None = None
    positionStatus: str = "defined"


class _Markup(_Foreign):
    type: str
    name: str = ""
    coordinateSystem: Literal["LPS", "RAS"] = "LPS"
    coordinateUnits: str | list[str] = "mm"
    controlPoints: list[_ControlPoint] = []
    roiType: str = "Box"
    center: Annotated[list[FiniteFloat], Field(min_length=3, max_length=3)] | None = None
    size: Annotated[list[FiniteFloat], Field(min_length=3, max_length=3)] | None = None
    orientation: Annotated[list[FiniteFloat], Field(min_length=9, max_length=9)] = list(np.eye(3).ravel())


class _File(_Foreign):
    markups: list[_Markup]


def read(path: Path) -> Annotations:
    """Defined points and boxes of all markups in a file. A box that stands askew becomes the upright one around it.

    Raises:
        PromptError: if it is no markups file, or has nothing to prompt with.
    """
    try:
        file = TypeAdapter(_File).validate_python(json_of(path))
    except ValidationError as error:
        fault = error.errors()[0]
        place = ".".join(map(str, fault["loc"])) or "file"
        raise PromptError(f"{path}: no markups of 3D Slicer: {place}: {fault['msg']}") from error
    annotations = [annotation for markup in file.markups for annotation in _annotations(markup, path)]
    if not annotations:
        raise PromptError(f"{path}: no defined point and no region of interest in it; place clicks and save it again")
    return Annotations("world_lps_mm", tuple(annotations))


def write(path: Path, objects: Sequence[ObjectPrompt]) -> None:
    """Write objects whose points are in LPS mm: a point list each, and a region of interest for each box."""
    seen: dict[int, int] = {}
    markups: list[dict[str, Any]] = []
    for prompt in objects:
        number = seen[prompt.class_id] = seen.get(prompt.class_id, 0) + 1
        points = [
            {
                "id": str(count),
                "label": format_label(prompt.class_id, prompt.class_name, number, inside=bool(inside), count=count),
                "position": list(point),
                "positionStatus": "defined",
            }
            for count, (point, inside) in enumerate(zip(prompt.points, prompt.labels, strict=True), start=1)
        ]
        if points:
            markups.append({"type": "Fiducial", **_HEAD, "labelFormat": "%N-%d", "controlPoints": points})
        if prompt.box is not None:
            markups.append(_roi(prompt, prompt.box, number))
    write_text(path, json.dumps({"@schema": _SCHEMA, "markups": markups}, indent=2, allow_nan=False) + "\n")


_HEAD = {"coordinateSystem": "LPS", "coordinateUnits": "mm", "locked": False}


def _annotations(markup: _Markup, path: Path) -> list[Annotation]:
    units = [markup.coordinateUnits] if isinstance(markup.coordinateUnits, str) else markup.coordinateUnits
    if units[:1] != ["mm"]:
        raise PromptError(f"{path}: coordinates in {', '.join(units) or 'no unit'}, expected mm; save it again with mm")
    flips = _FLIPS[markup.coordinateSystem]
    if markup.type == "Fiducial":
        return [
            Annotation(parse_label(point.description or point.label, str(path)), place=_point(flips * point.position))
            for point in markup.controlPoints
            if point.positionStatus == "defined" and point.position is not None
        ]
    if markup.type == "ROI":
        return [_box(markup, flips, path)]
    raise PromptError(f"{path}: a markup of type {markup.type}; point lists (Fiducial) and ROI can be prompts")


def _box(markup: _Markup, flips: np.ndarray, path: Path) -> Annotation:
    if markup.center is None or markup.size is None:
        raise PromptError(f"{path}: a ROI without center and size; save it with 3D Slicer 5 or later")
    if not np.any(markup.size):
        raise PromptError(f"{path}: a ROI without extent; draw it around the object and save it again")
    half = np.array(markup.size) / 2
    axes = np.array(markup.orientation).reshape(3, 3)  # its columns are the box's own axes
    places = (corners((-half).tolist(), half.tolist()) @ axes.T + markup.center) * flips  # (8, 3)
    written = markup.name or next((point.description or point.label for point in markup.controlPoints), "")
    label = parse_label(written, str(path))
    if not label.inside:
        raise PromptError(f"{path}: a ROI called {written!r}, a box of what lies outside; use points for that")
    return Annotation(label, box=(_point(places.min(axis=0)), _point(places.max(axis=0))))


def _roi(prompt: ObjectPrompt, box: tuple[Point, Point], number: int) -> dict[str, Any]:
    label = format_label(prompt.class_id, prompt.class_name, number, inside=True, count=1)
    middle = np.mean(box, axis=0).tolist()
    point = {"id": "1", "label": label, "position": middle, "positionStatus": "defined"}
    return {
        "type": "ROI",
        **_HEAD,
        "name": label,
        "roiType": "Box",
        "center": middle,
        "orientation": np.eye(3).ravel().tolist(),
        "size": np.abs(np.subtract(*box)).tolist(),
        "insideOut": False,
        "controlPoints": [point],
    }


def _point(values: np.ndarray) -> Point:
    x, y, z = values.tolist()
    return x, y, z
