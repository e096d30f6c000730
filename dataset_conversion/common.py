"""Steps that converters share: finding files, and writing one case whole and checked."""

import json
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dataset_conversion.layout import Part, SourceCase, SourceDataset
from dataset_conversion.state import ConversionState
from moe_pipeline.errors import GeometryError, ImageError, PipelineError
from moe_pipeline.files import atomic_path
from moe_pipeline.imaging.files import as_labels, check_finite, label_values
from moe_pipeline.imaging.native import read_channels, read_native, write_native
from moe_pipeline.imaging.volume import Volume
from moe_pipeline.records.dataset import ConversionRow

FILE_ENDING = ".nii.gz"


def files_of(folder: Path) -> list[Path]:
    """Visible files of a folder, sorted; none if there is no such folder."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))


def labels_of(folder: Path, ending: str) -> dict[str, Path]:
    """Label files of a folder by case id."""
    return {path.name.removesuffix(ending): path for path in files_of(folder) if path.name.endswith(ending)}


def is_json_with(path: Path, key: str) -> bool:
    """Whether a file is a JSON object that has a key."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and key in content


def pair_up(
    images: Sequence[Path],
    labels: dict[str, Path],
    pattern: re.Pattern[str],
    n_channels: int,
    part: Part = "training",
) -> tuple[list[SourceCase], dict[str, str]]:
    """Cases from channel files and labels.

    Args:
        images: files, of which some match `pattern`.
        labels: label file by case id; test cases may go without.
        pattern: matches a file name, with groups `case` and `channel`.
        n_channels: how many channels each case must have.
        part: what they are for.

    Returns:
        The complete cases, and the reason by case id for the others.
    """
    channels: dict[str, dict[int, Path]] = {}
    for path in images:
        if match := pattern.fullmatch(path.name):
            channels.setdefault(match["case"], {})[int(match["channel"])] = path
    cases, faults = [], {}
    for case_id, found in sorted(channels.items()):
        if sorted(found) != list(range(n_channels)):
            there = ", ".join(f"{number:04d}" for number in sorted(found))
            faults[case_id] = f"has channels {there}; dataset.json names {n_channels}"
        elif part == "training" and case_id not in labels:
            faults[case_id] = f"{found[0].name}: an image without label"
        else:
            ordered = tuple(found[number] for number in range(n_channels))
            cases.append(SourceCase(case_id, ordered, labels.get(case_id), part))
    for case_id in sorted(set(labels) - set(channels)):
        faults[case_id] = f"{labels[case_id].name}: a label without image"
    return cases, faults


def convert_case(case: SourceCase, dataset: SourceDataset, out: Path, state: ConversionState) -> ConversionRow:
    """Check one case, write it and note what it was made from, unless that was done before.

    A failure becomes a row with its reason, and leaves no file of the case behind.
    """
    targets = target_paths(case, len(dataset.channel_names), out)
    try:
        if all(path.is_file() for path in targets) and state.is_current(case):
            return ConversionRow(case_id=case.case_id, status="present")
        with state.recorded(case):
            notes = _write_case(case, dataset, targets)
    except (PipelineError, OSError) as error:
        for path in targets:
            path.unlink(missing_ok=True)
        return ConversionRow(case_id=case.case_id, status="failed", message=str(error))
    return ConversionRow(case_id=case.case_id, status="converted", message="; ".join(notes))


def target_paths(case: SourceCase, n_channels: int, out: Path) -> list[Path]:
    """Files of a converted case: channels in order, then the label."""
    suffix = "Tr" if case.part == "training" else "Ts"
    paths = [out / f"images{suffix}" / f"{case.case_id}_{channel:04d}{FILE_ENDING}" for channel in range(n_channels)]
    return paths + ([out / f"labels{suffix}" / f"{case.case_id}{FILE_ENDING}"] if case.label else [])


def _write_case(case: SourceCase, dataset: SourceDataset, targets: list[Path]) -> list[str]:
    channels = [channel for path in case.images for channel in read_channels(path)]
    if len(channels) != len(dataset.channel_names):
        raise ImageError(
            f"{case.images[0]}: {len(channels)} channels, dataset.json names {len(dataset.channel_names)} "
            f"({', '.join(dataset.channel_names)})"
        )
    grid = channels[0].geometry
    for number, channel in enumerate(channels):
        if faults := grid.differences(channel.geometry):
            raise GeometryError(f"channel 0 and channel {number} lie on different grids: {'; '.join(faults)}")
        check_finite(channel.array, case.images[min(number, len(case.images) - 1)])
    label = _checked_label(case.label, dataset, channels[0]) if case.label else None
    notes = [
        note
        for number, (channel, target) in enumerate(zip(channels, targets, strict=False))
        if (note := _write(channel, case.images[number] if len(case.images) == len(channels) else None, target))
    ]
    if label is not None:
        notes += [note for note in [_write(label.volume, label.copy_from, targets[-1])] if note]
    return notes


@dataclass(frozen=True, slots=True)
class _Label:
    volume: Volume
    copy_from: Path | None  # None where the stored numbers are no integers


def _checked_label(path: Path, dataset: SourceDataset, image: Volume) -> _Label:
    native = read_native(path)
    if faults := image.geometry.differences(native.geometry):
        raise GeometryError(f"{path.name}: image and label lie on different grids: {'; '.join(faults)}")
    labels = as_labels(native, path)
    unknown = [value for value in label_values(labels.array) if value not in dataset.labels.values()]
    if unknown:
        named = ", ".join(str(value) for value in sorted(dataset.labels.values()))
        found = ", ".join(str(value) for value in unknown[:10])
        raise ImageError(f"{path.name}: label values {found} are not in dataset.json, which names {named}")
    return _Label(labels, path if np.issubdtype(native.array.dtype, np.integer) else None)


def _write(volume: Volume, copy_from: Path | None, target: Path) -> str:
    """Copy the file where its format fits, write it anew otherwise; says so in that case."""
    if copy_from is not None and copy_from.name.lower().endswith(FILE_ENDING):
        with atomic_path(target) as temporary:
            shutil.copyfile(copy_from, temporary)
        return ""
    write_native(volume, target)
    return f"{target.name} written anew ({volume.array.dtype})"
