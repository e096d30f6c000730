"""Points layers of napari, saved as .csv: axis-0, axis-1, axis-2 and, where there is one, a column label or class."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from moe_pipeline.errors import PromptError
from moe_pipeline.files import write_text
from moe_pipeline.prompts.annotations import Annotation, Annotations
from moe_pipeline.prompts.label_syntax import format_label, parse_label
from moe_pipeline.prompts.tables import finite, text_of
from moe_pipeline.records.prompts import ObjectPrompt

SUFFIX = ".csv"

_AXES = ("axis-0", "axis-1", "axis-2")
_LABELS = ("label", "class")


def read(path: Path) -> Annotations:
    """Points as indices of the array that napari shows: z, y, x of the image file.

    Raises:
        PromptError: if it is no such table, or has no point.
    """
    rows = csv.DictReader(io.StringIO(text_of(path)))
    columns = {name.strip().lower(): name for name in rows.fieldnames or ()}
    axes = sorted(name for name in columns if name.startswith("axis-"))
    if tuple(axes) != _AXES:
        found = ", ".join(columns) or "nothing"
        raise PromptError(
            f"{path}: no points of a 3D layer of napari: expected columns {', '.join(_AXES)}, found {found}"
        )
    labels = next((columns[name] for name in _LABELS if name in columns), None)
    annotations = []
    for count, row in enumerate(rows, start=1):
        where = f"{path}, row {count}"
        z, y, x = (finite(row[columns[axis]] or "", f"{where}, {axis}") for axis in _AXES)
        annotations.append(Annotation(parse_label((row[labels] or "") if labels else "", where), place=(z, y, x)))
    if not annotations:
        raise PromptError(f"{path}: no point in it; place clicks and save the layer again")
    return Annotations("array_zyx", tuple(annotations))


def write(path: Path, objects: Sequence[ObjectPrompt]) -> None:
    """Write clicks that are indices z, y, x.

    Raises:
        PromptError: if an object has a box, which a points layer cannot hold.
    """
    if any(prompt.box is not None for prompt in objects):
        raise PromptError(f"{path}: a points layer holds no boxes; write prompts.json or mrk.json instead")
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["index", *_AXES, _LABELS[0]])
    seen: dict[int, int] = {}
    count = 0
    for prompt in objects:
        number = seen[prompt.class_id] = seen.get(prompt.class_id, 0) + 1
        for point, inside in zip(prompt.points, prompt.labels, strict=True):
            label = format_label(prompt.class_id, prompt.class_name, number, inside=bool(inside), count=count + 1)
            writer.writerow([count, *point, label])
            count += 1
    write_text(path, stream.getvalue())
