"""From the files of a case to its fingerprint, and from all of them to the dataset's."""

from pathlib import Path

import numpy as np

from moe_pipeline.files import sha256_json
from moe_pipeline.planning.check import CaseCheck
from moe_pipeline.planning.dataset import Case, RawDataset
from moe_pipeline.planning.measures import body_box, class_boxes, class_measures, measure_channel, measure_class
from moe_pipeline.records.dataset import DatasetJson
from moe_pipeline.records.planning import CaseFingerprint, CaseMeasures, ChannelMeasures
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
        files=tuple(FileStamp.of(path, dataset.folder) for path in case_files(case)),
        description_sha256=description_sha256(dataset.json),
        faults=tuple(check.faults),
        measures=measures if check.is_usable else None,
    )


def case_files(case: Case) -> list[Path]:
    """Images, then label."""
    return [*case.images, *([case.label] if case.label else [])]


def description_sha256(description: DatasetJson) -> str:
    """Hash of what a case is checked against."""
    return sha256_json([description.channel_names, description.labels])


def _measure(check: CaseCheck) -> CaseMeasures | None:
    """Measures of a faultless case. Also reads the channels of a faulty one, to find all its faults."""
    label = check.label.array if check.label else np.zeros((0, 0, 0), np.uint8)
    boxes = class_boxes(label, check.description.classes) if check.label else {}
    channels: list[ChannelMeasures] = []
    intensities, body = [], None
    for number in range(len(check.case.images)):
        volume = check.read_channel(number)
        if volume is None or not check.is_usable:
            continue
        measures, by_class = measure_channel(volume, label, boxes)
        channels.append(measures)
        intensities.append(by_class)
        body = body_box(volume.array) if body is None else body
    if not check.is_usable or check.label is None or check.native is None or body is None:
        return None
    grid = check.label.geometry
    classes = {
        value: class_measures(
            measure_class(label, value, box, grid, body), tuple(channel[value] for channel in intensities)
        )
        for value, box in boxes.items()
    }
    return CaseMeasures(
        shape=grid.shape,
        spacing_mm=grid.spacing_mm,
        orientation=check.native.orientation,
        channels=tuple(channels),
        classes=classes,
    )
