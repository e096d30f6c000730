"""Points layers of napari, saved as .csv: axis-0, axis-1, axis-2 and, where there is one, a column label or class."""

import csv
import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from moe_pipeline.errors import PromptError
from moe_pipeline.files import write_text
from moe_pipeline.prompts.annotations import Annotation, Annotations
from moe_pipeline.prompts.formats import napari_shapes
from moe_pipeline.prompts.formats.text import Row, finite, table_of
from moe_pipeline.prompts.label_syntax import format_label, parse_label, sign_of
from moe_pipeline.records.prompts import ObjectPrompt

SUFFIX = ".csv"

AXES = ("axis-0", "axis-1", "axis-2")
_LABELS = ("label", "class")
_SIGNS = ("sign", "positive", "is_positive", "foreground", "inside", "polarity")


def read(path: Path) -> Annotations:
    """Points, or the boxes of a Shapes layer, as indices of the array that napari shows: z, y, x of the image file.

    A column `label` or `class` says what is clicked on. A column such as `sign` or `positive` says, with words such as
    True or negative, whether a click lies inside.

    Raises:
        PromptError: if it is no such table, has no point, or a column of signs could be meant but is called otherwise.
    """
    columns, rows = table_of(path)
    axes = sorted(name for name in columns if name.startswith("axis-"))
    if tuple(axes) != AXES:
        found = ", ".join(columns) or "nothing"
        raise PromptError(
            f"{path}: no points of a 3D layer of napari: expected columns {', '.join(AXES)}, found {found}"
        )
    labels = _only(columns, _LABELS, path)
    if napari_shapes.TYPE in columns:
        return Annotations("array_zyx", napari_shapes.boxes(rows, AXES, labels, path))
    signs = _only(columns, _SIGNS, path)
    _refuse_hidden_signs(rows, {*columns} - {*AXES, labels, signs}, path)
    annotations = tuple(_click(row, labels, signs) for row in rows)
    if not annotations:
        raise PromptError(f"{path}: no point in it; place clicks and save the layer again")
    return Annotations("array_zyx", annotations)


def _click(row: Row, labels: str, signs: str) -> Annotation:
    z, y, x = (finite(row.cells[axis], f"{row.where}, {axis}") for axis in AXES)
    label = parse_label(row.cells[labels] if labels else "", row.where)
    if signs:
        sign = {"1": "inside", "0": "outside"}.get(row.cells[signs].strip()) or sign_of(row.cells[signs])
        if not sign or (not label.inside and sign == "inside"):
            written = f"{row.cells[signs]!r}" + (f" beside the label {row.cells[labels]!r}" if labels else "")
            raise PromptError(f"{row.where}: column {signs} says {written}; expected True or False, and no other sign")
        label = replace(label, inside=sign == "inside")
    return Annotation(label, place=(z, y, x))


def _only(columns: Sequence[str], names: Sequence[str], path: Path) -> str:
    """The one of some columns that is there; nothing if none is."""
    found = [name for name in names if name in columns]
    if len(found) > 1:
        raise PromptError(f"{path}: which column counts, {' or '.join(found)}? Keep one of them")
    return found[0] if found else ""


def _refuse_hidden_signs(rows: Sequence[Row], columns: set[str], path: Path) -> None:
    for name in sorted(columns):
        words = {row.cells[name].strip() for row in rows}
        if any(sign_of(word) == "outside" for word in words) and all(sign_of(word) for word in words if word):
            raise PromptError(
                f"{path}: column {name} holds {', '.join(sorted(words))}: if it says which clicks lie outside, call it "
                f"{_SIGNS[0]}; else leave it out"
            )


def write(path: Path, objects: Sequence[ObjectPrompt]) -> None:
    """Write clicks that are indices z, y, x.

    Raises:
        PromptError: if an object has a box, which a points layer cannot hold.
    """
    if any(prompt.box is not None for prompt in objects):
        raise PromptError(f"{path}: a points layer holds no boxes; write prompts.json or mrk.json instead")
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["index", *AXES, _LABELS[0]])
    seen: dict[int, int] = {}
    count = 0
    for prompt in objects:
        number = seen[prompt.class_id] = seen.get(prompt.class_id, 0) + 1
        for point, inside in zip(prompt.points, prompt.labels, strict=True):
            label = format_label(prompt.class_id, prompt.class_name, number, inside=bool(inside), count=count + 1)
            writer.writerow([count, *point, label])
            count += 1
    write_text(path, stream.getvalue())
