"""What the cases of a dataset have in common."""

from collections import Counter
from collections.abc import Sequence
from itertools import combinations

import numpy as np

from moe_pipeline.datasets.dataset import RawDataset
from moe_pipeline.errors import DatasetError
from moe_pipeline.files import sha256_json
from moe_pipeline.planning.intensities import intensity_of, pooled_percentiles, short
from moe_pipeline.records.planning import (
    CaseFingerprint,
    CaseMeasures,
    CaseSummary,
    ClassMeasures,
    ClassSummary,
    Fingerprint,
    Intensity,
    PairSummary,
    Spread,
)


def summarise_cases(dataset: RawDataset, fingerprints: Sequence[CaseFingerprint]) -> Fingerprint:
    """The dataset's fingerprint from those of its cases. Cases with errors count for nothing but their faults.

    Raises:
        DatasetError: if no case is usable.
    """
    ordered = sorted(fingerprints, key=lambda case: case.case_id)
    usable = [(case.case_id, case.measures) for case in ordered if case.measures is not None]
    if not usable:
        raise DatasetError(f"{dataset.folder}: none of its {len(ordered)} cases can be used")
    measures = [measured for _, measured in usable]
    return Fingerprint(
        dataset=dataset.name,
        dataset_sha256=_dataset_sha256(dataset, ordered),
        channel_names=dataset.json.channel_names,
        cases=tuple(_row(case_id, measured) for case_id, measured in usable),
        faults=(*dataset.faults, *(fault for case in ordered for fault in case.faults)),
        orientations=dict(sorted(Counter(measured.orientation for measured in measures).items())),
        spacing_mm=_spreads([measured.spacing_mm for measured in measures]),
        shape=_spreads([measured.shape for measured in measures]),
        foreground=tuple(_pooled_foreground(measures, number) for number in range(len(dataset.json.channel_names))),
        classes={value: _class_summary(name, value, measures) for value, name in dataset.classes.items()},
        pairs=_pairs(measures),
    )


def _dataset_sha256(dataset: RawDataset, fingerprints: Sequence[CaseFingerprint]) -> str:
    files = [[stamp.path, stamp.sha256] for case in fingerprints for stamp in case.files]
    return sha256_json([dataset.json.model_dump(mode="json"), files])


def _row(case_id: str, measured: CaseMeasures) -> CaseSummary:
    return CaseSummary(
        case_id=case_id, shape=measured.shape, spacing_mm=measured.spacing_mm, classes=tuple(sorted(measured.classes))
    )


def _class_summary(name: str, value: int, measures: Sequence[CaseMeasures]) -> ClassSummary:
    found = [measured.classes[value] for measured in measures if value in measured.classes]
    if not found:
        return ClassSummary(name=name, cases=0)
    centroid = np.mean([one.centroid for one in found], axis=0)
    return ClassSummary(
        name=name,
        cases=len(found),
        volume_ml=_spread([one.volume_ml for one in found]),
        extent_mm=_spreads([[high - low for low, high in one.box_mm] for one in found]),
        longest_mm=_spread([max(one.object_mm) for one in found]),
        shortest_mm=_spread([min(one.object_mm) for one in found]),
        components=_spread([one.components for one in found]),
        centroid=(short(centroid[0]), short(centroid[1]), short(centroid[2])),
        intensity=tuple(
            _mean_intensity([one.intensity[number] for one in found]) for number in range(len(found[0].intensity))
        ),
    )


def _pooled_foreground(measures: Sequence[CaseMeasures], number: int) -> Intensity | None:
    """Distribution over all cases, each counting the same whatever its number of voxels."""
    channels = [measured.channels[number] for measured in measures]
    found = [channel.foreground for channel in channels if channel.foreground is not None]
    if not found:
        return None
    means, stds = np.array([one.mean for one in found]), np.array([one.std for one in found])
    sketches = [channel.foreground_quantiles for channel in channels if channel.foreground is not None]
    std = float(np.sqrt((stds**2).mean() + means.var()))
    return intensity_of(float(means.mean()), std, pooled_percentiles(sketches, (0.5, 5, 50, 95, 99.5)))


def _mean_intensity(found: Sequence[Intensity]) -> Intensity:
    rows = np.array([list(one.model_dump().values()) for one in found])
    return Intensity(**dict(zip(Intensity.model_fields, map(short, rows.mean(axis=0)), strict=True)))


def _pairs(measures: Sequence[CaseMeasures]) -> dict[str, PairSummary]:
    extents: dict[tuple[int, int], list[float]] = {}
    for measured in measures:
        for first, second in combinations(sorted(measured.classes), 2):
            extent = _joint_extent(measured.classes[first], measured.classes[second])
            extents.setdefault((first, second), []).append(extent)
    return {
        f"{first} {second}": PairSummary(cases=len(found), extent_mm=_spread(found))
        for (first, second), found in sorted(extents.items())
    }


def _joint_extent(one: ClassMeasures, other: ClassMeasures) -> float:
    sides = zip(one.box_mm, other.box_mm, strict=True)
    return max(max(a_high, b_high) - min(a_low, b_low) for (a_low, a_high), (b_low, b_high) in sides)


def _spreads(rows: Sequence[Sequence[float]]) -> tuple[Spread, Spread, Spread]:
    x, y, z = (_spread([row[axis] for row in rows]) for axis in range(3))
    return x, y, z


def _spread(values: Sequence[float]) -> Spread:
    low, median, high = np.percentile(values, (5, 50, 95))
    return Spread(low=short(low), median=short(median), high=short(high))
