"""A name for the new dataset, from the name of its source."""

import re
from pathlib import Path

from moe_pipeline.errors import DatasetError
from moe_pipeline.workspace import DATASET_NAME

_TASK = re.compile(r"(?:Task|Dataset)_?(\d{1,3})(?:_|(?=[A-Za-z]))(.+)", re.IGNORECASE)


def suggest_name(source: Path) -> str:
    """Dataset004_Hippocampus for a folder called Task04_Hippocampus; a name that is one already stays.

    Raises:
        DatasetError: if the folder's name has no number to take over.
    """
    name = source.resolve().name
    if DATASET_NAME.fullmatch(name):
        return name
    match = _TASK.fullmatch(name)
    title = re.sub(r"[^A-Za-z0-9_-]+", "", match[2]).lstrip("_-") if match else ""
    if not match or not title:
        raise DatasetError(f"{source}: its name has no number; choose one, such as --out Dataset001_MyData")
    return f"Dataset{int(match[1]):03d}_{title}"
