"""Classes as the user wants them: `--labels map.json` renames, merges, renumbers and drops those of the source.

    {"liver": "liver", "kidneys": ["kidney_left", "kidney_right"], "tumour": [2, 3], "background": "*"}

Each class says which of the source's values or classes it is made of. Classes are numbered 1, 2, 3, ... in the order of
the file; {"value": 7, "from": [2, 3]} gives a number of one's own. What goes into `background` is
dropped, and "*" stands for every value that is named nowhere else. A value that is named nowhere is an error.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from pydantic import ConfigDict, Field, RootModel, ValidationError

from dataset_conversion.layout import SourceDataset
from moe_pipeline.errors import DatasetError, RecordError
from moe_pipeline.records.base import Part, read_json
from moe_pipeline.records.dataset import BACKGROUND, IGNORE

REST = "*"
_MAX_VALUE = 65535
_Origin = int | str


class NumberedClass(Part):
    """A class with a value of the user's choice."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    value: int = Field(ge=0, le=_MAX_VALUE)
    """In the new dataset."""
    origins: _Origin | tuple[_Origin, ...] = Field(alias="from")
    """Values or class names of the source."""


class LabelMap(RootModel[dict[str, _Origin | tuple[_Origin, ...] | NumberedClass]]):
    """New class name to what it is made of."""

    model_config = ConfigDict(frozen=True)

    @classmethod
    def load(cls, path: Path) -> "LabelMap":
        """Read a JSON file.

        Raises:
            RecordError: if it is missing, no JSON, or no label map.
        """
        content = read_json(path, "a label map")
        try:
            return cls.model_validate(content)
        except ValidationError as error:
            fault = error.errors()[0]
            key = str(fault["loc"][0]) if fault["loc"] else "file"
            expected = 'expected JSON such as {"liver": 1, "tumour": [2, 3], "background": "*"}'
            raise RecordError(f"{path}: not a label map: {key}: {fault['msg']}; {expected}") from error

    def new_labels(self) -> dict[str, int]:
        """Name to value in the new dataset, background included.

        Raises:
            DatasetError: if two classes share a value, or one is called `ignore`.
        """
        if IGNORE in self.root:
            raise DatasetError(f"--labels: {IGNORE} (voxels without annotation) is not supported; choose another name")
        labels = {BACKGROUND: 0}
        taken = {entry.value for entry in self.root.values() if isinstance(entry, NumberedClass)}
        free = (value for value in range(1, _MAX_VALUE + 1) if value not in taken)
        for name, entry in self.root.items():
            if name != BACKGROUND:
                labels[name] = entry.value if isinstance(entry, NumberedClass) else next(free)
        doubled = sorted(value for value in set(labels.values()) if list(labels.values()).count(value) > 1)
        if doubled:
            names = ", ".join(name for name, value in labels.items() if value in doubled)
            raise DatasetError(f"--labels: {names} share a value; each class needs one of its own, and 0 is background")
        return labels

    def origins(self) -> Iterator[tuple[str, _Origin]]:
        """Every pair of new class and old value or name."""
        for name, entry in self.root.items():
            found = entry.origins if isinstance(entry, NumberedClass) else entry
            for origin in found if isinstance(found, tuple) else (found,):
                yield name, origin


def apply(label_map: LabelMap, dataset: SourceDataset) -> SourceDataset:
    """The dataset with the map's classes.

    Raises:
        DatasetError: if the map names what the source does not have, or a value twice, or leaves a class of the source
            unmentioned; lists them all.
    """
    labels = label_map.new_labels()
    value_map: dict[int, int] = {}
    faults: list[str] = []
    rest: str | None = None
    for name, origin in label_map.origins():
        if origin == REST:
            rest = name
            continue
        value = _source_value(origin, dataset)
        if value is None:
            known = ", ".join(f"{key} ({number})" for key, number in (dataset.labels or {}).items())
            faults.append(f"{name}: the source has no {origin!r}" + (f"; it has {known}" if known else " by name"))
        elif value_map.get(value, labels[name]) != labels[name]:
            faults.append(f"{name}: {origin!r} already went to another class")
        else:
            value_map[value] = labels[name]
    value_map.setdefault(0, 0)
    left = {name: value for name, value in (dataset.labels or {}).items() if value not in value_map}
    if left and rest is None:
        faults.append(f"nothing is said about {', '.join(f'{name} ({value})' for name, value in left.items())}")
    if rest is not None and dataset.labels is None:
        faults.append(f"{rest}: {REST!r} needs a source that says which values it has; list them")
    if faults:
        raise DatasetError("\n  ".join([f"--labels: {len(faults)} faults", *faults]))
    if rest is not None:
        value_map |= dict.fromkeys(left.values(), labels[rest])
    return replace(dataset, labels=labels, value_map=value_map, regions={}, refusals=())


def _source_value(origin: _Origin, dataset: SourceDataset) -> int | None:
    if isinstance(origin, str):
        return (dataset.labels or {}).get(origin)
    return origin if dataset.labels is None or origin in dataset.labels.values() else None
