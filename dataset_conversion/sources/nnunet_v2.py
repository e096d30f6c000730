"""nnU-Net v2 raw folders: already the layout we want, perhaps with another file format."""

import re
from pathlib import Path
from typing import Any

from dataset_conversion.common import DESCRIPTION, faults_of_labels, files_of, keys_of, labels_of, pair_up
from dataset_conversion.layout import Options, SourceCase, SourceDataset
from moe_pipeline.datasets.dataset import listed_path
from moe_pipeline.files import is_file
from moe_pipeline.paths import RawFolder
from moe_pipeline.records.dataset import DatasetJson
from moe_pipeline.records.names import check_name

_KNOWN = {"channel_names", "labels", "numTraining", "file_ending", "schema_version", "dataset", "regions_class_order"}


def detect(source: Path) -> bool:
    """dataset.json names channels, as only version 2 does."""
    return "channel_names" in keys_of(source)


def describe(source: Path, _: Options) -> SourceDataset:
    """Cases by file name, or as dataset.json lists them.

    Raises:
        DatasetError: if it lists a case under a name that files cannot have.
        RecordError: if dataset.json breaks its schema.
    """
    description = DatasetJson.load(RawFolder(source).description)
    pattern = re.compile(rf"(?P<case>.+)_(?P<channel>\d{{4}}){re.escape(description.file_ending)}", re.DOTALL)
    channels = tuple(description.channel_names[str(number)] for number in range(len(description.channel_names)))
    ending, n_channels = description.file_ending, len(channels)
    if description.dataset is not None:
        cases, faults = _listed(source, description.dataset, n_channels)
    else:
        labels = labels_of(source / "labelsTr", ending)
        cases, faults = pair_up(files_of(source / "imagesTr"), labels, pattern, n_channels, ending=ending)
        faults |= faults_of_labels(source / "labelsTr", ending)
    test_labels = labels_of(source / "labelsTs", ending)
    tests, more = pair_up(files_of(source / "imagesTs"), test_labels, pattern, n_channels, "test", ending)
    extra = {key: value for key, value in description.model_dump().items() if key not in _KNOWN}
    return SourceDataset(
        channels,
        _values(description),
        (*cases, *tests),
        faults | more,
        extra,
        n_counted=description.numTraining,
        regions=_regions(description),
        refusals=tuple(f"{DESCRIPTION}: {fault}" for fault in description.faults_of_labels(regions=True)),
    )


def _listed(source: Path, listed: dict[str, Any], n_channels: int) -> tuple[list[SourceCase], dict[str, str]]:
    """Cases of an explicit list, and what is wrong with the others."""
    cases: list[SourceCase] = []
    faults: dict[str, str] = {}
    for case_id, entry in sorted(listed.items()):
        check_name(case_id, f"{source / 'dataset.json'}: key `dataset`")
        if not isinstance(entry, dict) or not isinstance(entry.get("images"), list) or "label" not in entry:
            faults[case_id] = "in dataset.json, it needs a list `images` and a `label`"
            continue
        if entry["label"] is None:
            faults[case_id] = "in dataset.json its `label` is null; name one, or take the case off the list"
            continue
        images, label = (
            tuple(listed_path(source, path) for path in entry["images"]),
            listed_path(source, entry["label"]),
        )
        missing = [str(path) for path in (*images, label) if not is_file(path)]
        if missing:
            faults[case_id] = f"{' and '.join(missing)}: listed in dataset.json, but not there"
        elif len(images) != n_channels:
            faults[case_id] = f"{len(images)} images for {n_channels} channels"
        else:
            cases.append(SourceCase(case_id, images, (label,)))
    return cases, faults


def _regions(description: DatasetJson) -> dict[str, Any]:
    order = (description.model_extra or {}).get("regions_class_order")
    if not description.regions:
        return {}
    return {"labels": description.labels} | ({} if order is None else {"regions_class_order": order})


def _values(description: DatasetJson) -> dict[str, int]:
    """Name to value; where names stand for several values, or several for one, each value goes by its number."""
    labels = {name: value for name, value in description.labels.items() if isinstance(value, int)}
    if len(labels) == len(description.labels) and len(set(labels.values())) == len(labels):
        return labels
    listed = [value if isinstance(value, list) else [value] for value in description.labels.values()]
    return {"background": 0} | {str(value): value for value in sorted({one for found in listed for one in found} - {0})}
