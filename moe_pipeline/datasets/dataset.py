"""A raw dataset folder as nnU-Net v2 lays it out."""

import os
import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from moe_pipeline.errors import DatasetError
from moe_pipeline.files import is_file, is_folder
from moe_pipeline.imaging.io.formats import fault_of_format, has_image_suffix
from moe_pipeline.paths import RawFolder
from moe_pipeline.records.dataset import DatasetJson
from moe_pipeline.records.names import check_name, composed, fault_of_name, printable, shown
from moe_pipeline.records.planning import Fault
from moe_pipeline.workspace import refuse_one_below

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
    """Cases whose files are all in their places, and what is wrong with the others; no image was opened yet."""

    folder: Path
    """Holds dataset.json, imagesTr, labelsTr and perhaps imagesTs."""
    json: DatasetJson
    """Its dataset.json."""
    cases: tuple[Case, ...]
    """Training cases, sorted by id; all have labels."""
    test_cases: tuple[Case, ...] = field(default=())
    """Cases of imagesTs."""
    faults: tuple[Fault, ...] = field(default=())
    """Why other cases are left out: a missing channel or file, a label without image, an image without label."""

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
            raise_faults(self.folder, fault_lines([fault for fault in self.faults if fault.case_id == case_id]))
            raise DatasetError(f"{self.folder}: no training case {case_id!r}; it has {len(self.cases)} cases")
        return found


def open_dataset(folder: Path) -> RawDataset:
    """Read dataset.json and find the files of every case; no image is opened.

    Faults of single cases are part of the result; whether to go on without these cases is for the caller to say.

    Raises:
        DatasetError: if the folder is missing, dataset.json contradicts itself or lists a case under a name that files
            cannot have, or no case is complete.
        RecordError: if dataset.json is missing or breaks its schema.
    """
    if not folder.is_dir():
        raise DatasetError(f"{folder}: no such folder; expected a dataset with dataset.json, imagesTr and labelsTr")
    if not os.path.lexists(RawFolder(folder).description):
        refuse_one_below(folder)
    description = DatasetJson.load(RawFolder(folder).description)
    raise_faults(folder, [f"dataset.json: {fault}" for fault in description.faults_of_labels()])
    finder = _listed_cases if description.dataset is not None else _found_cases
    cases, faults = finder(folder, description)
    if not cases:
        raise_faults(folder, fault_lines(faults) or [f"no images *_0000{description.file_ending} in imagesTr"])
    tests, more = _channel_files(folder / "imagesTs", description)
    test_cases = tuple(Case(case_id, images, None) for case_id, images in sorted(tests.items()))
    return RawDataset(folder, description, tuple(cases), test_cases, (*faults, *more))


def fault_lines(faults: Sequence[Fault]) -> list[str]:
    """Faults for `raise_faults`."""
    return [f"{printable(fault.case_id)}: {fault.message}" for fault in faults]


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


def _found_cases(folder: Path, description: DatasetJson) -> tuple[list[Case], list[Fault]]:
    images, faults = _channel_files(folder / "imagesTr", description)
    incomplete = {fault.case_id for fault in faults}
    ending = description.file_ending
    files = _files(folder / "labelsTr")
    doubled = twins([*_files(folder / "imagesTr"), *files])
    faults += [_fault(name, why) for name, why in doubled.items()]
    labels = {composed(path.name.removesuffix(ending)): path for path in files if path.name.endswith(ending)}
    wrong = {path.name: fault_of_file_name(path, ending, numbered=False) for path in files}
    faults += [_fault(name, why) for name, why in wrong.items() if why]
    for case_id, path in sorted(labels.items()):
        if case_id not in images and case_id not in incomplete:
            faults.append(
                _fault(case_id, f"{path.name}: a label without image; expected imagesTr/{case_id}_0000{ending}")
            )
    for case_id, channels in sorted(images.items()):
        if case_id not in labels:
            faults.append(
                _fault(
                    case_id,
                    f"{channels[0].name}: an image without label; expected labelsTr/{case_id}{ending}"
                    f"{numbered_label(case_id, labels)}",
                )
            )
    cases = [
        Case(case_id, images[case_id], labels[case_id])
        for case_id in sorted(set(images) & set(labels))
        if not any(path.name in doubled for path in (*images[case_id], labels[case_id]))
    ]
    return cases, faults


def _listed_cases(folder: Path, description: DatasetJson) -> tuple[list[Case], list[Fault]]:
    cases, faults = [], []
    listed: dict[str, Any] = description.dataset or {}
    for case_id, entry in sorted(listed.items()):
        check_name(case_id, f"{folder / 'dataset.json'}: key `dataset`")
        if not isinstance(entry, dict) or not isinstance(entry.get("images"), list) or "label" not in entry:
            faults.append(_fault(case_id, "in dataset.json, it needs a list `images` and a `label`"))
            continue
        if entry["label"] is None:
            faults.append(
                _fault(case_id, "in dataset.json its `label` is null; name one, or take the case off the list")
            )
            continue
        label = listed_path(folder, entry["label"])
        case = Case(case_id, tuple(listed_path(folder, image) for image in entry["images"]), label)
        found = [f"{path} does not exist" for path in (*case.images, label) if not is_file(path)]
        if len(case.images) != len(description.channel_names):
            found.append(f"{len(case.images)} images for {len(description.channel_names)} channels")
        faults += [_fault(case_id, message) for message in found]
        cases += [] if found else [case]
    return cases, faults


def _channel_files(folder: Path, description: DatasetJson) -> tuple[dict[str, tuple[Path, ...]], list[Fault]]:
    """Files in channel order of each case that has all channels, and what is wrong with the others."""
    ending = description.file_ending
    pattern = re.compile(rf"(.+)_(\d{{4}}){re.escape(ending)}", re.DOTALL)
    found: dict[str, dict[int, Path]] = {}
    faults = []
    for path in _files(folder):
        match = pattern.fullmatch(path.name)
        if match and (why := fault_of_name(match[1])):
            faults.append(
                _fault(match[1], f"{shown(path.name)}: {shown(match[1])} cannot be a case id: {why}; rename it")
            )
        elif match:
            found.setdefault(composed(match[1]), {})[int(match[2])] = path
        elif why := fault_of_file_name(path, ending, numbered=True):
            faults.append(_fault(path.name.removesuffix(ending), why))
    expected = list(range(len(description.channel_names)))
    for case_id, channels in sorted(found.items()):
        if sorted(channels) != expected:
            there = ", ".join(f"{number:04d}" for number in sorted(channels))
            names = f"dataset.json names {len(expected)} (0000 to {expected[-1]:04d})"
            faults.append(_fault(case_id, f"has channels {there}; {names}"))
    complete = {
        case_id: tuple(channels[number] for number in expected)
        for case_id, channels in found.items()
        if sorted(channels) == expected
    }
    return complete, faults


def numbered_label(case_id: str, labels: Collection[str]) -> str:
    """What to add if the label of a case is there under the name of a channel."""
    return (
        f" ({case_id}_0000 is there: labels carry no channel number, rename it)" if f"{case_id}_0000" in labels else ""
    )


def twins(files: Iterable[Path]) -> dict[str, str]:
    """Names of files beside which another is written with the same letters, and what to do about it."""
    same: dict[Path, list[str]] = {}
    for path in files:
        same.setdefault(path.with_name(composed(path.name)), []).append(path.name)
    return {
        name: f"{' and '.join(map(ascii, names))} are the same letters in two forms of Unicode; keep one of them"
        for names in same.values()
        if len(names) > 1
        for name in names
    }


def listed_path(folder: Path, text: Any) -> Path:
    """A path of dataset.json's `dataset`, relative to its folder; $VARIABLES are expanded, as nnU-Net does."""
    return folder / os.path.expandvars(str(text))


def fault_of_file_name(path: Path, ending: str, *, numbered: bool) -> str:
    """Why an image file in a folder of nnU-Net's is not seen; empty if it is seen, or is no image.

    Args:
        path: of the file.
        ending: that dataset.json says all files have.
        numbered: whether names carry a channel number.
    """
    if not (has_image_suffix(path) or fault_of_format(path)):
        return ""
    if not path.name.endswith(ending):
        return (
            f"{shown(path.name)}: does not end in {ending}, as all files do by dataset.json (file_ending). Rename it, "
            "or convert it to that format"
        )
    if numbered and not re.fullmatch(rf".+_\d{{4}}{re.escape(ending)}", path.name, re.DOTALL):
        return f"{path.name}: no channel number; expected a name like case_0000{ending}"
    return ""


def _fault(case_id: str, message: str) -> Fault:
    return Fault(case_id=case_id, severity="error", message=message)


def _files(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if not is_folder(path) and not path.name.startswith("."))
    except FileNotFoundError:
        return []
    except OSError as error:
        reason = f"cannot be opened ({error.strerror}); open it for reading"
        raise DatasetError(f"{folder}: {reason}") from error
