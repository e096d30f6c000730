"""Class names for a folder of label maps."""

from pathlib import Path

from moe_pipeline.records.dataset import DatasetJson


def classes_beside(labels: Path) -> dict[int, str]:
    """Value to name from the dataset.json beside a folder such as labelsTs; empty if there is none.

    Raises:
        RecordError: if there is one, but it breaks its schema.
    """
    path = labels.resolve().parent / "dataset.json"
    return DatasetJson.load(path).classes if path.is_file() else {}
