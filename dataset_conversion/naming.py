"""Names for converted datasets."""

import re
from pathlib import Path

from moe_pipeline.errors import DatasetError

_NUMBERED = re.compile(r"(?:Task|Dataset)0*(\d{1,3})_([A-Za-z0-9][A-Za-z0-9_-]*)")


def suggest_name(source: Path) -> str:
    """Dataset004_Hippocampus for Task04_Hippocampus, Task004_Hippocampus or Dataset004_Hippocampus.

    Raises:
        DatasetError: if the folder's name has no number and name.
    """
    match = _NUMBERED.fullmatch(source.resolve().name)
    if match is None:
        raise DatasetError(f"{source}: cannot guess a dataset name from it; give one with --out Dataset005_Name")
    return f"Dataset{int(match[1]):03d}_{match[2]}"
