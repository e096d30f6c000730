"""nnU-Net v1 task folders: one file per channel, labels and modalities numbered in dataset.json."""

import re
from pathlib import Path

from dataset_conversion.common import files_of, is_json_with, labels_of, pair_up
from dataset_conversion.layout import Options, SourceDataset
from dataset_conversion.sources.decathlon_json import DecathlonJson
from moe_pipeline.paths import RawFolder

_NAME = re.compile(r"(?P<case>.+)_(?P<channel>\d{4})\.nii\.gz")


def detect(source: Path) -> bool:
    """dataset.json as in the Decathlon, but every image name carries a channel number, each case from 0000 on."""
    names = [path.name for path in files_of(source / "imagesTr") if path.name.endswith(".nii.gz")]
    matches = [_NAME.fullmatch(name) for name in names]
    numbered = bool(names) and all(match and f"{match['case']}_0000.nii.gz" in names for match in matches)
    return is_json_with(RawFolder(source).description, "modality") and numbered


def describe(source: Path, _: Options) -> SourceDataset:
    """Cases by file name; dataset.json gives the names of channels and labels.

    Raises:
        RecordError: if dataset.json breaks its schema.
    """
    description = DecathlonJson.load(RawFolder(source).description)
    channels = description.channel_names
    labels = labels_of(source / "labelsTr", ".nii.gz")
    cases, faults = pair_up(files_of(source / "imagesTr"), labels, _NAME, len(channels))
    tests, more = pair_up(files_of(source / "imagesTs"), {}, _NAME, len(channels), "test")
    return SourceDataset(channels, description.label_values, (*cases, *tests), faults | more, description.kept)
