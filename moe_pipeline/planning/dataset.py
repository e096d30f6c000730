"""A raw dataset folder as nnU-Net v2 lays it out."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from moe_pipeline.errors import DatasetError
from moe_pipeline.records.dataset import DatasetJson

_MAX_LISTED = 20


@dataclass(frozen=True, slots=True)
class Case:
    """The files of one case."""

    case_id: str
    """Name without channel and suffix."""
    images: tuple[Path, ...]
    """One file per channel."""
    label: Path | None
    """Label map; None for test cases."""


@dataclass(frozen=True, slots=True)
class RawDataset:
    """A dataset whose files are all in their places; what is in them is not known yet."""

    folder: Path
    """Holds dataset.json, imagesTr, labelsTr and perhaps imagesTs."""
    json: DatasetJson
    """Its dataset.json."""
    cases: tuple[Case, ...]
    """Training cases, sorted by id; all have labels."""
    test_cases: tuple[Case, ...] = field(default=())
    """Cases of imagesTs."""

    @property
    def name(self) -> str:
        """Name of the folder."""
        return self.folder.resolve().name

    @property
    def classes(self) -> dict[int, str]:
        """Value to name, without background."""
        return self.json.classes

    def case(self, case_id: str) -> Case:
        """One training case.

        Raises:
            DatasetError: if there is none of that id.
        """
        found = next((case for case in self.cases if case.case_id == case_id), None)
        if found is None:
            raise DatasetError(f"{self.folder}: no training case {case_id!r}; it has {len(self.cases)} cases")
        return found


def open_dataset(folder: Path) -> RawDataset:
    """Read dataset.json and find the files of every case; no image is opened.

    Raises:
        DatasetError: lists every fault: a missing folder or channel, a label without image, an image without label.
        RecordError: if dataset.json is missing or breaks its schema.
    """
    if not folder.is_dir():
        raise DatasetError(f"{folder}: no such folder; expected a dataset with dataset.json, imagesTr and labelsTr")
    description = DatasetJson.load(folder / "dataset.json")
    faults = _label_faults(description)
    finder = _listed_cases if description.dataset is not None else _found_cases
    cases, more = finder(folder, description)
    faults += more
    if not cases and not faults:
        faults.append(f"no images *_0000{description.file_ending} in imagesTr")
    raise_faults(folder, faults)
    tests, more = _channel_files(folder / "imagesTs", description)
    raise_faults(folder, more)
    test_cases = tuple(Case(case_id, images, None) for case_id, images in sorted(tests.items()))
    return RawDataset(folder, description, tuple(cases), test_cases)


def raise_faults(folder: Path, faults: list[str]) -> None:
    """Raise one error that lists all faults, if there are any.

    Raises:
        DatasetError: with one line per fault.
    """
    if not faults:
        return
    shown = faults[:_MAX_LISTED] + ([f"... and {len(faults) - _MAX_LISTED} more"] if len(faults) > _MAX_LISTED else [])
    count = "1 fault" if len(faults) == 1 else f"{len(faults)} faults"
    raise DatasetError("\n  ".join([f"{folder}: {count}", *shown]))


def _label_faults(description: DatasetJson) -> list[str]:
    faults = []
    if description.regions:
        names = ", ".join(description.regions)
        faults.append(f"dataset.json: regions are not supported ({names}): give each label value a name of its own")
    values = [value for value in description.labels.values() if isinstance(value, int)]
    if len(set(values)) < len(values):
        faults.append("dataset.json: two labels share a value")
    if not description.classes and not description.regions:
        faults.append("dataset.json: labels has no class besides background")
    if min(values, default=0) < 0 or max(values, default=0) > 65535:
        faults.append(f"dataset.json: label values must lie in 0..65535, found {min(values)}..{max(values)}")
    return faults


def _found_cases(folder: Path, description: DatasetJson) -> tuple[list[Case], list[str]]:
    images, faults = _channel_files(folder / "imagesTr", description)
    labels = {
        path.name.removesuffix(description.file_ending): path
        for path in _files(folder / "labelsTr")
        if path.name.endswith(description.file_ending)
    }
    faults += [
        f"{path.name}: a label without image; expected imagesTr/{case_id}_0000{description.file_ending}"
        for case_id, path in sorted(labels.items())
        if case_id not in images
    ]
    cases = []
    for case_id, channels in sorted(images.items()):
        if case_id in labels:
            cases.append(Case(case_id, channels, labels[case_id]))
        else:
            faults.append(
                f"{channels[0].name}: an image without label; expected labelsTr/{case_id}{description.file_ending}"
            )
    return cases, faults


def _listed_cases(folder: Path, description: DatasetJson) -> tuple[list[Case], list[str]]:
    cases, faults = [], []
    listed: dict[str, Any] = description.dataset or {}
    for case_id, entry in sorted(listed.items()):
        if not isinstance(entry, dict) or not isinstance(entry.get("images"), list) or "label" not in entry:
            faults.append(f"dataset.json: dataset.{case_id} needs a list `images` and a `label`")
            continue
        case = Case(case_id, tuple(folder / str(image) for image in entry["images"]), folder / str(entry["label"]))
        if len(case.images) != len(description.channel_names):
            faults.append(f"{case_id}: {len(case.images)} images for {len(description.channel_names)} channels")
        missing = [path for path in (*case.images, folder / str(entry["label"])) if not path.is_file()]
        faults += [f"{case_id}: {path} does not exist" for path in missing]
        cases.append(case)
    return cases, faults


def _channel_files(folder: Path, description: DatasetJson) -> tuple[dict[str, tuple[Path, ...]], list[str]]:
    """Files per case in channel order, and what is wrong with them."""
    pattern = re.compile(rf"(.+)_(\d{{4}}){re.escape(description.file_ending)}")
    found: dict[str, dict[int, Path]] = {}
    faults = []
    for path in _files(folder):
        match = pattern.fullmatch(path.name)
        if match:
            found.setdefault(match[1], {})[int(match[2])] = path
        elif path.name.endswith(description.file_ending):
            faults.append(f"{path.name}: no channel number; expected a name like case_0000{description.file_ending}")
    expected = list(range(len(description.channel_names)))
    for case_id, channels in sorted(found.items()):
        if sorted(channels) != expected:
            there = ", ".join(f"{number:04d}" for number in sorted(channels))
            faults.append(
                f"{case_id}: has channels {there}; dataset.json names {len(expected)} (0000 to {expected[-1]:04d})"
            )
    complete = {case_id: tuple(channels[n] for n in sorted(channels)) for case_id, channels in found.items()}
    return complete, faults


def _files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
