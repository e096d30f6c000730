"""One case of a source, looked through: all of its faults, and numbers to compare it with the others."""

from functools import partial
from pathlib import Path

import numpy as np

from dataset_conversion.layout import Loaded, LoadedCase, SourceCase, SourceDataset
from moe_pipeline.files import sha256_json
from moe_pipeline.imaging.files import has_image_suffix
from moe_pipeline.imaging.inspection import (
    attempt,
    finding,
    inspect_grid,
    inspect_image,
    inspect_label,
    stored_as_floats,
)
from moe_pipeline.imaging.native import read_channels, read_native
from moe_pipeline.imaging.numbers import case_numbers
from moe_pipeline.imaging.volume import Volume
from moe_pipeline.records.check import CheckedCase, Finding, Fix, Kind
from moe_pipeline.records.journal import Journal


def check_case(case: SourceCase, dataset: SourceDataset, journal: Journal[CheckedCase]) -> CheckedCase:
    """Read and check one case, unless the journal knows it. Nothing is raised for a bad one."""
    files = [file for path in (*case.images, *case.labels) for file in _files(path)]
    missing = [path for path in files if not path.is_file()]
    known = journal.find(case.case_id, files) if not missing else None
    if known is not None:
        return known
    stamps = journal.stamp([path for path in files if path not in missing])  # first: they may change meanwhile
    loaded, findings = _load(case)
    finite, more = _check_channels(loaded, case, dataset)
    label, wrong = _check_label(loaded, case, dataset)
    checked = CheckedCase(
        case_id=case.case_id,
        description_sha256=description_sha256(dataset),
        files=stamps,
        findings=(*findings, *more, *wrong),
        numbers=case_numbers(finite, label),
    )
    journal.add(checked)
    return checked


def description_sha256(dataset: SourceDataset) -> str:
    """Hash of what cases are checked against."""
    value_map = sorted((dataset.value_map or {}).items())
    return sha256_json([dataset.channel_names, dataset.labels, value_map, dataset.settings])


def _files(path: Path) -> list[Path]:
    """A file itself; the files of a DICOM folder."""
    return sorted(file for file in path.iterdir() if file.is_file()) if path.is_dir() else [path]


def _load(case: SourceCase) -> tuple[LoadedCase, list[Finding]]:
    """Whatever can be read of a case: if its loader gives up, every file is read on its own, to find all faults."""
    if case.load is None:
        return _read_each(case)
    first = (*case.images, *case.labels)[0]
    loaded, findings = attempt(case.case_id, first, partial(case.load, case))
    if loaded is not None:
        return loaded, []
    each, more = _read_each(case)
    told = {one.message for one in more}
    return each, [one for one in findings if one.message not in told] + more


def _read_each(case: SourceCase) -> tuple[LoadedCase, list[Finding]]:
    channels: list[Loaded] = []
    findings: list[Finding] = []
    label: Loaded | None = None
    for path in case.images:
        if path.is_dir() or has_image_suffix(path):
            volumes, wrong = attempt(case.case_id, path, partial(read_channels, path))
            channels += [Loaded(volume, path) for volume in volumes or ()]
            findings += wrong
    for path in case.labels:
        if has_image_suffix(path):
            volume, wrong = attempt(case.case_id, path, partial(read_native, path))
            label = Loaded(volume, path) if volume is not None and len(case.labels) == 1 else None
            findings += wrong
    return LoadedCase(tuple(channels), label), findings


def _check_channels(loaded: LoadedCase, case: SourceCase, dataset: SourceDataset) -> tuple[list[Volume], list[Finding]]:
    """The channels that hold numbers, and what is wrong with all of them."""
    channels, findings = loaded.channels, []
    if len(channels) > len(dataset.channel_names) and len(case.images) == 1:
        path = case.images[0]
        sides = "x".join(map(str, (*channels[0].volume.geometry.shape, len(channels))))
        named = f"{len(dataset.channel_names)} channel(s) ({', '.join(dataset.channel_names)})"
        found = f"expected {named}, found 4D of size {sides}"
        is_plain = len(dataset.channel_names) == 1
        fix: Fix | None = "split-4d" if is_plain else None
        findings.append(finding(Kind.DIMENSIONS, case.case_id, found, path.name, fix=fix))
    finite = []
    for number, channel in enumerate(channels):
        path = channel.file or case.images[min(number, len(case.images) - 1)]
        wrong = inspect_image(case.case_id, path, channel.volume)
        if not any(one.severity == "error" for one in wrong):
            finite.append(channel.volume)
        what = f"{channels[0].file.name if channels[0].file else 'channel 0'} and channel {number}"
        first = channels[0].volume.geometry
        findings += wrong + inspect_grid(case.case_id, path.name, channel.volume.geometry, first, what)
    return finite, findings


def _check_label(loaded: LoadedCase, case: SourceCase, dataset: SourceDataset) -> tuple[Volume | None, list[Finding]]:
    """The label as integers if it is one, and what is wrong with it."""
    if loaded.label is None:
        return None, []
    path, native = loaded.label.file or case.labels[0], loaded.label.volume
    values = set(dataset.value_map if dataset.value_map is not None else (dataset.labels or {}).values())
    others = {0, *([dataset.labels["ignore"]] if "ignore" in (dataset.labels or {}) and dataset.labels else [])}
    labels, findings = inspect_label(case.case_id, path, native, values - others, others)
    if labels is not None and not np.issubdtype(native.array.dtype, np.integer):
        findings += stored_as_floats(case.case_id, path, native)
    if loaded.channels:
        grid = loaded.channels[0].volume.geometry
        findings += inspect_grid(case.case_id, path.name, native.geometry, grid, "image and label")
    return labels, findings
