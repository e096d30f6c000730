"""3D Slicer's older point lists: .fcsv."""

import csv
import io
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from moe_pipeline.errors import PromptError
from moe_pipeline.files import write_text
from moe_pipeline.prompts.annotations import Annotation, Annotations
from moe_pipeline.prompts.formats.text import cells_of, finite, same_length, text_of
from moe_pipeline.prompts.label_syntax import format_label, parse_label
from moe_pipeline.records.prompts import ObjectPrompt

SUFFIX = ".fcsv"

_SYSTEMS = {"LPS": 1.0, "1": 1.0, "RAS": -1.0, "0": -1.0}
_COLUMNS = ("id", "x", "y", "z", "ow", "ox", "oy", "oz", "vis", "sel", "lock", "label", "desc", "associatedNodeID")
_N_STATUS = 2  # cells that 3D Slicer 5 puts behind those that it names: whether the point is defined, and another
_DEFINED = "2"
_VERSION = re.compile(r"\d+(?:\.\d+)*")


def read(path: Path) -> Annotations:
    """Points in the coordinate system that the header names: LPS or 1, RAS or 0; RAS where it names none.

    Raises:
        PromptError: if it is no such file, or has no point.
    """
    lines = text_of(path).splitlines()
    header = dict(line[1:].split("=", 1) for line in lines if line.startswith("#") and "=" in line)
    header = {name.strip(): value.strip() for name, value in header.items()}
    if not _VERSION.fullmatch(header.get("Markups fiducial file version", "")):
        raise PromptError(f"{path}: no point list of 3D Slicer 4 or later: its header names no version")
    system = header.get("CoordinateSystem", "RAS")
    if system not in _SYSTEMS:
        raise PromptError(f"{path}: CoordinateSystem {system}; expected LPS, RAS, 0 (RAS) or 1 (LPS)")
    columns = [name.strip() for name in header.get("columns", ",".join(_COLUMNS)).split(",")]
    flips = np.array([_SYSTEMS[system], _SYSTEMS[system], 1.0])
    annotations: list[Annotation] = []
    lines = [line for line in lines if line.strip() and not line.startswith("#")]
    for number, row in enumerate(cells_of(path, lines), start=1):
        where = f"{path}, point {number}"
        named, status = row[: len(columns)], row[len(columns) :]
        if len(status) == _N_STATUS and status[0].strip() != _DEFINED:
            continue
        same_length(named if len(status) == _N_STATUS else row, columns, where)
        cells = dict(zip(columns, named, strict=True))
        x, y, z = (flips * [finite(cells.get(axis, ""), f"{where}, {axis}") for axis in "xyz"]).tolist()
        annotations.append(
            Annotation(parse_label(cells.get("desc", "") or cells.get("label", ""), where), place=(x, y, z))
        )
    if not annotations:
        raise PromptError(f"{path}: no defined point in it; place clicks and save it again")
    return Annotations("world_lps_mm", tuple(annotations))


def write(path: Path, objects: Sequence[ObjectPrompt]) -> None:
    """Write clicks that are in LPS mm.

    Raises:
        PromptError: if an object has a box, which this format cannot hold.
    """
    if any(prompt.box is not None for prompt in objects):
        raise PromptError(f"{path}: .fcsv holds no boxes; write prompts.json or mrk.json instead")
    stream = io.StringIO()
    stream.write("# Markups fiducial file version = 4.11\n# CoordinateSystem = LPS\n")
    stream.write(f"# columns = {','.join(_COLUMNS)}\n")
    writer = csv.writer(stream, lineterminator="\n")
    seen: dict[int, int] = {}
    count = 0
    for prompt in objects:
        number = seen[prompt.class_id] = seen.get(prompt.class_id, 0) + 1
        for point, inside in zip(prompt.points, prompt.labels, strict=True):
            count += 1
            label = format_label(prompt.class_id, prompt.class_name, number, inside=bool(inside), count=count)
            writer.writerow([count, *point, 0, 0, 0, 1, 1, 1, 0, label, "", ""])
    write_text(path, stream.getvalue())
