"""Class names for a folder of label maps."""

import logging
import os
from pathlib import Path

from moe_pipeline.errors import PipelineError, RecordError
from moe_pipeline.imaging.io.files import label_maps_in, label_values, read_label_map
from moe_pipeline.paths import RawFolder
from moe_pipeline.records.base import read_json
from moe_pipeline.records.dataset import DatasetJson, ScoredClasses

_log = logging.getLogger(__name__)


def classes_beside(labels: Path) -> dict[int, str]:
    """Value to name from the dataset.json beside a folder such as labelsTs; empty if there is none.

    Both nnU-Net's form ({"liver": 1}) and the Decathlon's ({"1": "liver"}) are understood.

    Raises:
        RecordError: if there is one, but it breaks its schema, or its labels are not classes with one value each.
    """
    return _beside(labels, regions=False).names


def scored_classes_beside(labels: Path) -> ScoredClasses:
    """As `classes_beside`, where classes may be regions of several values.

    Raises:
        RecordError: if there is one, but it breaks its schema, or its labels are no classes.
    """
    return _beside(labels, regions=True)


def _beside(labels: Path, *, regions: bool) -> ScoredClasses:
    path = RawFolder(labels.resolve().parent).description
    if not os.path.lexists(path):
        return ScoredClasses({}, {})
    content = read_json(path, "a dataset.json with labels")
    if not isinstance(content, dict) or "labels" not in content:
        raise RecordError(f"{path}: no dataset.json with labels; expected a key `labels` that names the values")
    named = content["labels"]
    if isinstance(named, dict) and all(str(value).isdigit() and isinstance(name, str) for value, name in named.items()):
        return ScoredClasses({int(value): name for value, name in named.items() if int(value) > 0}, {})
    description = DatasetJson.load(path)
    if faults := description.faults_of_labels(regions=regions):
        raise RecordError("\n  ".join([f"{path}: its labels cannot be used", *faults]))
    return description.scored_classes


def classes_of(labels: Path) -> dict[int, str]:
    """Value to name from the label maps of a folder, for where no dataset.json names them.

    Label maps that cannot be read are left out; who reads them for their own sake says so.

    Raises:
        ImageError: if the folder is missing.
    """
    found: set[int] = set()
    for path in label_maps_in(labels).paths:
        try:
            found |= set(label_values(read_label_map(path).array))
        except PipelineError as error:
            _log.debug("no classes from an unreadable label map: %s", error)
    return {value: f"class {value}" for value in sorted(found - {0})}
