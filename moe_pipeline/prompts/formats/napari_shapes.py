"""Shapes layers of napari, saved as .csv with a row per vertex: a rectangle is a box."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from moe_pipeline.errors import PromptError
from moe_pipeline.prompts.annotations import Annotation
from moe_pipeline.prompts.formats.text import Row, finite
from moe_pipeline.prompts.label_syntax import parse_label
from moe_pipeline.records.prompts import Point

TYPE = "shape-type"

_INDEX = "index"
_BOXES = ("rectangle", "ellipse")
_CORNERS = 4


def boxes(rows: Sequence[Row], axes: Sequence[str], labels: str, path: Path) -> tuple[Annotation, ...]:
    """The upright box around each rectangle or ellipse.

    Args:
        rows: one per corner.
        axes: columns of the coordinates.
        labels: column of the labels; empty if there is none.
        path: file, for messages.

    Raises:
        PromptError: if there is none, or another shape, or one that has not four corners.
    """
    shapes: dict[str, list[Row]] = {}
    for row in rows:
        shapes.setdefault(row.cells.get(_INDEX, ""), []).append(row)
    if not shapes:
        raise PromptError(f"{path}: no shape in it; draw a rectangle and save the layer again")
    return tuple(_box(corners, axes, labels, path) for corners in shapes.values())


def _box(corners: Sequence[Row], axes: Sequence[str], labels: str, path: Path) -> Annotation:
    first = corners[0]
    kinds = {row.cells[TYPE].strip().lower() for row in corners}
    if len(kinds) > 1 or not kinds <= set(_BOXES):
        raise PromptError(
            f"{first.where}: a shape of type {', '.join(sorted(kinds))}; {' and '.join(_BOXES)} can be prompts, as "
            "boxes. Draw a rectangle, or clicks in a Points layer"
        )
    if len(corners) != _CORNERS:
        raise PromptError(
            f"{first.where}: a {kinds.pop()} with {len(corners)} corners, expected {_CORNERS}; save again"
        )
    places = np.array([[finite(row.cells[axis], f"{row.where}, {axis}") for axis in axes] for row in corners])
    label = parse_label(first.cells[labels] if labels else "", first.where)
    if not label.inside:
        raise PromptError(f"{first.where}: a box of what lies outside; use clicks in {path.name} for that")
    return Annotation(label, box=(_point(places.min(axis=0)), _point(places.max(axis=0))))


def _point(values: np.ndarray) -> Point:
    z, y, x = values.tolist()
    return z, y, x
