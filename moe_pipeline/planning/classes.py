"""Class names for a folder of label maps."""

import json
from pathlib import Path

from moe_pipeline.errors import RecordError
from moe_pipeline.records.dataset import DatasetJson


def classes_beside(labels: Path) -> dict[int, str]:
    """Value to name from the dataset.json beside a folder such as labelsTs; empty if there is none.

    Both nnU-Net's form ({"liver": 1}) and the Decathlon's ({"1": "liver"}) are understood.

    Raises:
        RecordError: if there is one, but it breaks its schema.
    """
    path = labels.resolve().parent / "dataset.json"
    if not path.is_file():
        return {}
    try:
        named = json.loads(path.read_text(encoding="utf-8"))["labels"]
    except (ValueError, KeyError, TypeError) as error:
        raise RecordError(f"{path}: no dataset.json with labels: {error}") from error
    if isinstance(named, dict) and all(str(value).isdigit() and isinstance(name, str) for value, name in named.items()):
        return {int(value): name for value, name in named.items() if int(value) > 0}
    return DatasetJson.load(path).classes
