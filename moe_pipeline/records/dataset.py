"""nnU-Net v2's dataset.json, and what a conversion did."""

import json
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

from pydantic import ConfigDict, Field, SerializerFunctionWrapHandler, field_validator, model_serializer

from moe_pipeline.records.base import Part, Record
from moe_pipeline.records.cases import Accounting
from moe_pipeline.records.names import fault_of_title
from moe_pipeline.records.stamp import FileStamp

BACKGROUND, IGNORE = "background", "ignore"
"""Labels that nnU-Net reserves: nothing, and voxels without annotation."""
_MAX_VALUE = 65535
_MAP = (
    "Say what each value is to be when converting: --labels map.json with a line such as "
    '{"liver": 1, "tumour": [2, 3], "background": "*"}'
)


class DatasetJson(Record):
    """dataset.json of a raw folder. The format is nnU-Net's: keys that we do not know are kept."""

    model_config = ConfigDict(frozen=True, extra="allow")

    schema_version: int = Field(default=1, exclude=True)
    """Not written: the format is not ours."""
    channel_names: dict[str, str]
    """Channel number as text, to name: {"0": "CT"}."""
    labels: dict[str, int | list[int]]
    """Name to value; background is 0, `ignore` marks voxels without annotation. A list is a region of values."""
    numTraining: int = Field(ge=0)
    """Number of training cases."""
    file_ending: str = Field(pattern=r"^\.")
    """Suffix of all image and label files."""
    patients: dict[str, str] | None = None
    """Case id to patient, where one patient has several cases; ours, nnU-Net ignores it."""
    dataset: dict[str, Any] | None = None
    """Optional explicit list of cases: {"case": {"images": [paths], "label": path}}."""

    @field_validator("labels", mode="before")
    @classmethod
    def _names_have_values(cls, labels: Any) -> Any:
        if isinstance(labels, dict) and labels and all(isinstance(name, str) for name in labels.values()):
            expected = '{"background": 0, "liver": 1}, as channel_names belongs to nnU-Net v2'
            raise ValueError(f"expected a value for each name, such as {expected}; found {json.dumps(labels)}")
        if isinstance(labels, dict) and (odd := [name for name, value in labels.items() if isinstance(value, bool)]):
            raise ValueError(f"{', '.join(odd)}: expected a whole number, found {json.dumps(labels[odd[0]])}")
        return labels

    @field_validator("channel_names")
    @classmethod
    def _channels_are_numbered(cls, names: dict[str, str]) -> dict[str, str]:
        expected = [str(number) for number in range(len(names))]
        if not names or sorted(names, key=lambda key: (len(key), key)) != expected:
            raise ValueError(f"channels must be numbered from 0 without gaps, found {', '.join(names) or 'none'}")
        return names

    @model_serializer(mode="wrap")
    def _without_none(self, serialise: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {key: value for key, value in serialise(self).items() if value is not None}  # nnU-Net knows no null

    @property
    def regions(self) -> dict[str, list[int]]:
        """Labels that are made of several values."""
        return {name: value for name, value in self.labels.items() if isinstance(value, list) and len(value) > 1}

    @property
    def classes(self) -> dict[int, str]:
        """Value to name of every class with one value; without background and `ignore`, sorted by value."""
        named = {_single(value): name for name, value in self.labels.items() if name != IGNORE}
        return {value: named[value] for value in sorted(named) if value > 0}

    @property
    def scored_classes(self) -> "ScoredClasses":
        """All classes, regions among them, which may overlap; numbered as nnU-Net does where there are regions."""
        if not self.regions:
            return ScoredClasses(self.classes, {})
        named = {name: value for name, value in self.labels.items() if value not in (0, [0]) and name != IGNORE}
        numbered = dict(zip(self._region_numbers(len(named)), named.items(), strict=True))
        values = {
            number: tuple(value) if isinstance(value, list) else (value,) for number, (_, value) in numbered.items()
        }
        return ScoredClasses({number: name for number, (name, _) in numbered.items()}, values)

    def faults_of_labels(self, *, regions: bool = False) -> list[str]:
        """Why the labels cannot be taken for classes, in words; the same wherever they are read.

        Args:
            regions: whether classes may be regions; otherwise each needs one value, which no other has.
        """
        values: dict[int, list[str]] = {}
        for name, value in self.labels.items():
            for one in value if isinstance(value, list) else [value]:
                values.setdefault(one, []).append(name)
        faults = [f"labels: {name!a} cannot be the name of a class: {why}; rename it" for name, why in self._untitled()]
        if self.regions and not regions:
            listed = ", ".join(f"{name} = {value}" for name, value in self.regions.items())
            told = f"labels: regions ({listed}) are converted and scored, but no expert learns classes that may overlap"
            return [*faults, f"{told}. {_MAP}, one folder for each set of classes that do not"]
        if regions:
            faults += self._faults_of_regions()
        ignored = next((name for name in self.labels if name.casefold() == IGNORE), None)
        if ignored is not None:
            found = (
                f"labels: {ignored} ({self.labels[ignored]}) marks voxels without annotation, which is not supported"
            )
            faults.append(f"{found}: they would count as background. {_MAP}")
        faults += [
            f"labels: {' and '.join(names)} share the value {value}; give each a value of its own. {_MAP}"
            for value, names in values.items()
            if len(names) > 1 and not (self.regions and value > 0)
        ]
        zero = next(iter(values.get(0, ())), BACKGROUND)
        own = next((name for name in self.labels if name.casefold() == BACKGROUND), None)
        if own is not None and self.labels[own] not in (0, [0]):
            faults.append(f"labels: {own} is {self.labels[own]}, but must be 0. {_MAP}")
        elif zero.casefold() != BACKGROUND:
            faults.append(f"labels: the value 0 is called {zero!r}, but 0 must be {BACKGROUND}. Rename it. {_MAP}")
        if not (self.classes or self.regions) and ignored is None:
            faults.append("labels has no class besides background")
        if min(values, default=0) < 0 or max(values, default=0) > _MAX_VALUE:
            faults.append(f"labels: values must lie in 0..{_MAX_VALUE}, found {min(values)}..{max(values)}")
        return faults

    def _faults_of_regions(self) -> Iterator[str]:
        yield from (
            f"labels: {name} is an empty list; name its values" for name, found in self.labels.items() if found == []
        )
        for name, found in self.regions.items():
            if len(set(found)) < len(found) or 0 in found:
                yield f"labels: {name} = {found}; a region is made of values above 0, each of them once"
        n_classes = sum(value not in (0, [0]) for value in self.labels.values())
        order = (self.model_extra or {}).get("regions_class_order")
        if self.regions and order is not None and len(set(self._region_numbers(n_classes))) < n_classes:
            expected = f"{n_classes} different whole numbers above 0, one for each class"
            yield f"regions_class_order: expected {expected}, found {order}"

    def _region_numbers(self, n_classes: int) -> list[int]:
        """Of each class in the order of `labels`; nnU-Net's regions_class_order where it is there."""
        order = (self.model_extra or {}).get("regions_class_order")
        if order is None:
            return list(range(1, n_classes + 1))
        whole = isinstance(order, list) and all(type(one) is int and 0 < one <= _MAX_VALUE for one in order)
        return order if whole and len(order) == n_classes else [0] * n_classes

    def _untitled(self) -> list[tuple[str, str]]:
        return [(name, why) for name in self.labels if (why := fault_of_title(name))]


class ScoredClasses(NamedTuple):
    """Classes that label maps are compared by."""

    names: dict[int, str]
    """Name of each class id."""
    values: dict[int, tuple[int, ...]]
    """Label values that a class is made of, where it is not its id alone."""


class ConvertedCase(Part):
    """One line of cases.jsonl beside dataset.json: what a finished case was made from."""

    case_id: str
    """Case id in the new dataset."""
    description_sha256: str
    """Hash of the channels, labels and settings that the case was made with."""
    files: tuple[FileStamp, ...]
    """Source images, then labels."""
    label_values: tuple[int, ...] = ()
    """Distinct values of the label that was written, 0 included."""
    message: str = ""
    """What was changed on the way."""


class ConversionRow(Part):
    """What became of one case."""

    case_id: str
    """Case id in the new dataset."""
    status: Literal["converted", "present", "failed"]
    """present: finished by an earlier run and left alone."""
    message: str = ""
    """Why it failed, or what was changed on the way."""

    @property
    def remarks(self) -> str:
        """What a user should look at: the message without the files that were only written anew."""
        return "; ".join(part for part in self.message.split("; ") if " written anew (" not in part)


class ConversionReport(Record):
    """conversion.json beside dataset.json. Without rows it is the first thing that is written, to own the folder."""

    source: str
    """Folder it was made from."""
    source_format: str
    """Name of the converter."""
    folder: str
    """Folder that was written."""
    rows: tuple[ConversionRow, ...]
    """One per case found or expected, sorted by id."""
    accounting: tuple[Accounting, ...] = ()
    """Cases and files: found = used + left out."""
    notes: tuple[str, ...] = ()
    """About the whole: contrasts left out, what was guessed."""
    warnings: tuple[str, ...] = ()
    """About the whole, that a user should not miss: cases that should be here, no fold to validate with."""
    options: dict[str, Any] = Field(default_factory=dict)
    """What the user said where the layout leaves a choice."""
    seconds: float = Field(ge=0)
    """Wall time of the last run."""

    @property
    def failed(self) -> tuple[ConversionRow, ...]:
        """Cases that were left out."""
        return tuple(row for row in self.rows if row.status == "failed")

    @property
    def changed(self) -> tuple[ConversionRow, ...]:
        """Cases that differ from their source, and how."""
        return tuple(row for row in self.rows if row.status != "failed" and row.message)

    def summary(self) -> str:
        """One line for the terminal."""
        counts = {
            status: sum(row.status == status for row in self.rows) for status in ("converted", "present", "failed")
        }
        parts = [f"{number} {status}" for status, number in counts.items() if number]
        return f"{self.folder}: {', '.join(parts) or 'no cases'} ({self.source_format}, {self.seconds:.1f} s)"


def _single(value: int | list[int]) -> int:
    if isinstance(value, list):
        return value[0] if len(value) == 1 else -1
    return value
