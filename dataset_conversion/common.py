"""Steps that converters share when they look for files."""

import os
import re
from collections.abc import Sequence
from pathlib import Path

from dataset_conversion.layout import Part, SourceCase
from moe_pipeline.datasets.dataset import fault_of_file_name, numbered_label, twins
from moe_pipeline.files import is_file, is_folder
from moe_pipeline.paths import RawFolder
from moe_pipeline.records.base import read_json
from moe_pipeline.records.names import composed

DESCRIPTION = RawFolder.DESCRIPTION


def files_of(folder: Path) -> list[Path]:
    """Visible files of a folder, sorted, links to nothing included; none if there is no such folder that opens."""
    try:
        return sorted(path for path in folder.iterdir() if not is_folder(path) and not path.name.startswith("."))
    except OSError:
        return []  # what cannot be opened is accounted for, see `moe_pipeline.datasets.accounting`


def has_file(folder: Path, name: str) -> bool:
    """Whether a folder holds such a file; not if it cannot be opened."""
    return is_file(folder / name)


def subfolders_of(folder: Path) -> list[Path]:
    """Visible folders in a folder, sorted; none if it cannot be opened."""
    try:
        return sorted(path for path in folder.iterdir() if is_folder(path) and path.name[0] not in "._")
    except OSError:
        return []


def labels_of(folder: Path, ending: str) -> dict[str, Path]:
    """Label files of a folder by case id."""
    return {composed(path.name.removesuffix(ending)): path for path in files_of(folder) if path.name.endswith(ending)}


def faults_of_labels(folder: Path, ending: str) -> dict[str, str]:
    """Image files among the labels that are not seen because their names end in something else, and why."""
    whys = {path.name: fault_of_file_name(path, ending, numbered=False) for path in files_of(folder)}
    return {name: why for name, why in whys.items() if why}


def keys_of(source: Path) -> frozenset[str]:
    """Keys of a source's dataset.json; none if there is no such file, or it is no object.

    Raises:
        RecordError: if there is one that cannot be read: then nobody can say what the source is.
    """
    path = source / DESCRIPTION
    if not os.path.lexists(path):
        return frozenset()
    content = read_json(path, "the description of a dataset")
    return frozenset(content) if isinstance(content, dict) else frozenset()


def pair_up(
    images: Sequence[Path],
    labels: dict[str, Path],
    pattern: re.Pattern[str],
    n_channels: int,
    part: Part = "training",
    ending: str = ".nii.gz",
) -> tuple[list[SourceCase], dict[str, str]]:
    """Cases from channel files and labels.

    Args:
        images: files, of which some match `pattern`.
        labels: label file by case id; test cases may go without.
        pattern: matches a file name, with groups `case` and `channel`.
        n_channels: how many channels each case must have.
        part: what they are for.
        ending: of all files.

    Returns:
        The complete cases, and the reason by case id for the others.
    """
    channels: dict[str, dict[int, Path]] = {}
    doubled = twins(
        [*images, *(file for folder in {path.parent for path in labels.values()} for file in files_of(folder))]
    )
    faults: dict[str, str] = {}
    for path in images:
        if match := pattern.fullmatch(path.name):
            channels.setdefault(composed(match["case"]), {})[int(match["channel"])] = path
        elif why := fault_of_file_name(path, ending, numbered=True):
            faults[path.name] = why
    cases = []
    for case_id, found in sorted(channels.items()):
        if sorted(found) != list(range(n_channels)):
            there = ", ".join(f"{number:04d}" for number in sorted(found))
            faults[case_id] = f"has channels {there}; dataset.json names {n_channels}"
        elif names := [path.name for path in (*found.values(), labels.get(case_id, found[0])) if path.name in doubled]:
            faults[case_id] = doubled[names[0]]
        elif part == "training" and case_id not in labels:
            faults[case_id] = f"{found[0].name}: an image without label{numbered_label(case_id, labels)}"
        else:
            ordered = tuple(found[number] for number in range(n_channels))
            label = (labels[case_id],) if case_id in labels else ()
            cases.append(SourceCase(case_id, ordered, label, part))
    for case_id in sorted(set(labels) - set(channels)):
        faults[case_id] = f"{labels[case_id].name}: a label without image"
    return cases, faults
