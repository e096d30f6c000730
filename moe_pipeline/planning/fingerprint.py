"""From the files of a case to its fingerprint, and from all of them to the dataset's."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moe_pipeline.datasets.dataset import Case, RawDataset
from moe_pipeline.files import sha256_json
from moe_pipeline.imaging.components import Region
from moe_pipeline.imaging.io.formats import files_read
from moe_pipeline.planning.check import CaseCheck
from moe_pipeline.planning.intensities import measure_channel
from moe_pipeline.planning.measures import body_box, find_classes, measure_class
from moe_pipeline.records.dataset import DatasetJson
from moe_pipeline.records.planning import CaseFingerprint, CaseMeasures, ChannelMeasures, ClassMeasures, Intensity
from moe_pipeline.records.stamp import FileStamp


def fingerprint_case(case: Case, dataset: RawDataset) -> CaseFingerprint:
    """Read, check and measure one case; its faults are part of the result.

    The channels are read one after the other, so that only one of them is in memory.
    """
    check = CaseCheck(case, dataset.json)
    check.read_label()
    measures = _measure(check)
    return CaseFingerprint(
        case_id=case.case_id,
        files=tuple(FileStamp.of(path, dataset.folder) for path in case_files(case) if path.is_file()),
        description_sha256=description_sha256(dataset.json),
        faults=tuple(check.faults),
        measures=measures if check.is_usable else None,
    )


def case_files(case: Case) -> list[Path]:
    """Images, then label, each with the files that hold its voxels."""
    return [file for path in (*case.images, *([case.label] if case.label else [])) for file in files_read(path)]


def description_sha256(description: DatasetJson) -> str:
    """Hash of what a case is checked against."""
    return sha256_json([description.channel_names, description.labels])


@dataclass(frozen=True, slots=True)
class _Channel:
    """What is kept of a channel when its voxels are gone."""

    measures: ChannelMeasures
    by_class: dict[int, Intensity]
    body: NDArray[np.float64]


def _measure(check: CaseCheck) -> CaseMeasures | None:
    """Measures of a faultless case. Also reads the channels of a faulty one, to find all its faults."""
    label = check.label.array if check.label else np.zeros((0, 0, 0), np.uint8)
    found = find_classes(label, check.description.classes) if check.label else {}
    channels = [_measure_channel(check, number, label, found) for number in range(len(check.case.images))]
    read = [channel for channel in channels if channel is not None]
    if not check.is_usable or check.label is None or check.native is None or not read:
        return None
    grid = check.label.geometry
    classes = {
        value: ClassMeasures(
            **measure_class(label, value, region, grid, read[0].body),
            intensity=tuple(channel.by_class[value] for channel in read),
        )
        for value, region in found.items()
    }
    return CaseMeasures(
        shape=grid.shape,
        spacing_mm=grid.spacing_mm,
        orientation=check.native.orientation,
        channels=tuple(channel.measures for channel in read),
        classes=classes,
    )


def _measure_channel(
    check: CaseCheck, number: int, label: NDArray[np.integer[Any]], found: dict[int, Region]
) -> _Channel | None:
    volume = check.read_channel(number)
    if volume is None or not check.is_usable:
        return None
    measures, by_class = measure_channel(volume, label, found)
    return _Channel(measures, by_class, body_box(volume.array))
