"""Do the cases of a dataset fit together? Duplicates, patients on both sides of a split, cases unlike the others."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from moe_pipeline.imaging.checks.inspection import finding
from moe_pipeline.records.check import CaseNumbers, Finding, Kind

_MAX_LISTED = 10
_MIN_CASES = 3  # of two that differ, none is the odd one
_MANY = 0.1  # share of the cases from which on the dataset is mixed, and no case is odd
_SCALED_MAD = 1.4826  # makes the median absolute deviation a standard deviation, for Gaussian numbers
_LIMIT = 6.0  # standard deviations


@dataclass(frozen=True, slots=True)
class _Feature:
    """One property per case, positive numbers, in which the cases of a dataset are alike up to a factor."""

    title: str
    values: Mapping[str, Sequence[float]]
    """By case; as many numbers for each."""
    factor: float
    """Never odd within this factor of the median, however alike the others are."""
    unit: str = ""

    def told(self, numbers: Iterable[float]) -> str:
        """The property of a case in words."""
        return "x".join(f"{number:.3g}" for number in numbers) + self.unit


def duplicates(cases: Mapping[str, CaseNumbers], test_cases: Collection[str] = ()) -> list[Finding]:
    """Cases whose images are voxel for voxel the same.

    Args:
        cases: by id.
        test_cases: ids of those not for training; the same image on both sides is an error.
    """
    alike: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for case_id, numbers in sorted(cases.items()):
        if hashes := tuple(channel.content_sha256 for channel in numbers.channels):
            alike[hashes].append(case_id)
    findings = []
    for first, *others in alike.values():
        for other in others:
            leaks = (first in test_cases) != (other in test_cases)
            contradict = not leaks and cases[first].label_sha256 != cases[other].label_sha256
            remark = ", one for training and one for testing" if leaks else ", with another label" * contradict
            found = f"the same image as {first}{remark}"
            findings.append(finding(Kind.DUPLICATE, other, found, severity="error" if remark else "warning"))
    return findings


def patients_on_both_sides(
    patients: Mapping[str, str], one: Collection[str], other: Collection[str], sides: str
) -> list[Finding]:
    """Patients that have cases in both of two groups.

    Args:
        patients: case id to patient.
        one: case ids of a group.
        other: case ids of the other group; these get the findings.
        sides: which groups they are: "imagesTr and imagesTs".
    """
    first: dict[str, str] = {patients[case_id]: case_id for case_id in sorted(one, reverse=True) if case_id in patients}
    return [
        finding(
            Kind.PATIENT_ON_BOTH_SIDES,
            case_id,
            f"patient {patients[case_id]} is on both sides of {sides}, there with case {first[patients[case_id]]}",
        )
        for case_id in sorted(other)
        if case_id in patients and patients[case_id] in first
    ]


def outliers(cases: Mapping[str, CaseNumbers], channel_names: Sequence[str] = ()) -> list[Finding]:
    """Cases far from the median of all: spacing, field of view, intensities, volume of each class.

    Distances are those of logarithms, in robust standard deviations. If many cases are far off, the dataset is mixed
    and one finding says so.
    """
    return [found for feature in _features(cases, channel_names) for found in _odd(feature)]


def _odd(feature: _Feature) -> list[Finding]:
    ids = sorted(feature.values)
    if len(ids) < _MIN_CASES:
        return []
    logs = np.log([feature.values[case_id] for case_id in ids])  # (cases, numbers)
    middle = np.median(logs, axis=0)
    distance = np.abs(logs - middle)
    limit = np.maximum(_LIMIT * _SCALED_MAD * np.median(distance, axis=0), np.log(feature.factor))
    odd = [case_id for case_id, far in zip(ids, (distance > limit).any(axis=1), strict=True) if far]
    usual = f"usually about {feature.told(np.exp(middle))}"
    if len(odd) > max(1, _MANY * len(ids)):
        low, high = (feature.told(np.exp(numbers)) for numbers in (logs.min(axis=0), logs.max(axis=0)))
        listed = ", ".join(odd[:_MAX_LISTED]) + (", ..." if len(odd) > _MAX_LISTED else "")
        found = f"{feature.title} is mixed, {low} to {high}, {usual}; far off: {listed}"
        return [finding(Kind.OUTLIER, "", found, severity="warning")]
    return [
        finding(
            Kind.OUTLIER,
            case_id,
            f"{feature.title} is {feature.told(feature.values[case_id])}, {usual} in this dataset",
            severity="warning",
        )
        for case_id in odd
    ]


def _features(cases: Mapping[str, CaseNumbers], channel_names: Sequence[str]) -> list[_Feature]:
    features = [
        _Feature("the spacing", {case_id: one.spacing_mm for case_id, one in cases.items()}, 3.0, " mm"),
        _Feature("the field of view", {case_id: one.extent_mm for case_id, one in cases.items()}, 3.0, " mm"),
    ]
    for number in range(max((len(one.channels) for one in cases.values()), default=0)):
        title = channel_names[number] if number < len(channel_names) else f"channel {number}"
        spread = {
            case_id: (one.channels[number].spread,) for case_id, one in cases.items() if len(one.channels) > number
        }
        features.append(_Feature(f"the intensity range of {title}", _positive(spread), 5.0))
    for value in sorted({value for one in cases.values() for value in one.volumes_ml}):
        volume = {case_id: (one.volumes_ml[value],) for case_id, one in cases.items() if value in one.volumes_ml}
        features.append(_Feature(f"the volume of label {value}", _positive(volume), 5.0, " ml"))
    return features


def _positive(values: Mapping[str, tuple[float]]) -> dict[str, tuple[float]]:
    return {case_id: numbers for case_id, numbers in values.items() if numbers[0] > 0}
