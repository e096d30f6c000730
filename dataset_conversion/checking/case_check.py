"""One case of a source, looked through: all of its faults, and numbers to compare it with the others."""

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from dataset_conversion.layout import Loaded, LoadedCase, SourceCase, SourceDataset
from dataset_conversion.state import description_sha256
from moe_pipeline.files import is_file
from moe_pipeline.imaging.checks.inspection import (
    InspectedLabel,
    attempt,
    finding,
    inspect_grid,
    inspect_image,
    inspect_label,
    stored_as_floats,
)
from moe_pipeline.imaging.checks.shear import read_without_shear
from moe_pipeline.imaging.checks.statistics import case_numbers
from moe_pipeline.imaging.io.formats import files_read, has_image_suffix
from moe_pipeline.imaging.io.native import read_channels
from moe_pipeline.imaging.volume import Volume
from moe_pipeline.journal.crashes import CrashLog
from moe_pipeline.journal.journal import Journal
from moe_pipeline.paths import RawFolder
from moe_pipeline.records.check import CheckedCase, Finding, Fix, Kind


@dataclass(frozen=True, slots=True, eq=False)
class InspectedCase:
    """A case in memory, looked through."""

    finite: tuple[Volume, ...]
    """Channels that hold numbers."""
    labels: Volume | None
    """The label as unsigned integers, in the values of the source; None if it has none, or it is no label map."""
    counts: dict[int, int]
    """Voxels of each value of the label."""
    findings: tuple[Finding, ...]
    """What is wrong."""

    @property
    def errors(self) -> list[str]:
        """Why it cannot be used."""
        return [one.message_and_repair for one in self.findings if one.severity == "error"]

    @property
    def warnings(self) -> list[str]:
        """What to look at."""
        return [one.message for one in self.findings if one.severity == "warning"]


def check_case(case: SourceCase, dataset: SourceDataset, journal: Journal[CheckedCase]) -> CheckedCase:
    """Read and check one case, unless the journal knows it. Nothing is raised for a bad one, foreseen or not."""

    def failed(message: str) -> CheckedCase:
        found = finding(Kind.UNREADABLE, case.case_id, message)
        sha256 = description_sha256(dataset)
        return CheckedCase(case_id=case.case_id, description_sha256=sha256, files=(), findings=(found,))

    return CrashLog(journal.path.parent).guarded(case.case_id, lambda: _check(case, dataset, journal), failed)


def _check(case: SourceCase, dataset: SourceDataset, journal: Journal[CheckedCase]) -> CheckedCase:
    files = [file for path in (*case.images, *case.labels) for file in _files(path)]
    missing = [path for path in files if not is_file(path)]
    known = journal.find(case.case_id, files) if not missing else None
    if known is not None:
        return known
    stamps = journal.stamp([path for path in files if path not in missing])  # first: they may change meanwhile
    loaded, findings = _load(case)
    inspected = inspect_case(loaded, case, dataset, is_whole=not findings and case.case_id not in dataset.faults)
    checked = CheckedCase(
        case_id=case.case_id,
        description_sha256=description_sha256(dataset),
        files=stamps,
        findings=(*findings, *inspected.findings),
        numbers=case_numbers(inspected.finite, inspected.labels, inspected.counts),
    )
    journal.add(checked)
    return checked


def inspect_case(
    loaded: LoadedCase, case: SourceCase, dataset: SourceDataset, *, is_whole: bool = True
) -> InspectedCase:
    """Everything that is wrong with a case in memory.

    Args:
        loaded: what could be read of it.
        case: where it comes from.
        dataset: what it should be.
        is_whole: whether all of its files could be read; if not, their number says nothing.
    """
    finite, findings = _check_channels(loaded, case)
    if is_whole and loaded.channels:
        findings += _check_number(loaded, case, dataset)
    label = _check_label(loaded, case, dataset)
    return InspectedCase(tuple(finite), label.labels, label.counts, (*findings, *label.findings))


def _files(path: Path) -> list[Path]:
    """A file itself; the files of a DICOM folder."""
    return sorted(file for file in path.iterdir() if file.is_file()) if path.is_dir() else [*files_read(path)]


def _load(case: SourceCase) -> tuple[LoadedCase, list[Finding]]:
    """Whatever can be read of a case: if its loader gives up, every file is read on its own, to find all faults."""
    if case.load is None:
        return _read_each(case)
    loaded, findings = attempt(case.case_id, None, partial(case.load, case, frozenset[Fix]()))
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
            volumes, wrong = _read_file(case, path)
            channels += [Loaded(volume, path) for volume in volumes]
            findings += wrong
    for path in case.labels:
        if has_image_suffix(path):
            volumes, wrong = _read_file(case, path)
            label = Loaded(volumes[0], path) if len(volumes) == len(case.labels) == 1 else None
            findings += wrong
            if len(volumes) > 1:
                found = f"expected one 3D label map, found 4D of {len(volumes)} volumes"
                findings.append(finding(Kind.DIMENSIONS, case.case_id, found, path.name))
    return LoadedCase(tuple(channels), label), findings


def _read_file(case: SourceCase, path: Path) -> tuple[list[Volume], list[Finding]]:
    """The volumes of a file. One that is sheared by no more than can be snapped is read, and a finding all the same."""
    volumes, wrong = attempt(case.case_id, path, partial(read_channels, path))
    if case.load is None and wrong and wrong[0].kind == Kind.SHEARED:
        straight, _ = attempt(case.case_id, path, partial(read_without_shear, path))
        if straight is not None:
            return straight[0], [finding(Kind.SHEARED, case.case_id, wrong[0].found, path.name, fix="snap")]
    return volumes or [], wrong


def _check_number(loaded: LoadedCase, case: SourceCase, dataset: SourceDataset) -> list[Finding]:
    """Whether there are as many channels as the dataset names."""
    channels, names = loaded.channels, dataset.channel_names
    if len(channels) == len(names):
        return []
    found = f"{len(channels)} channels, but the dataset has {len(names)} ({', '.join(names)})"
    if len(case.images) > 1 or len(channels) == 1:
        return [finding(Kind.MISSING_FILE, case.case_id, found)]
    sides = "x".join(map(str, (*channels[0].volume.geometry.shape, len(channels))))
    fix: Fix | None = "split-4d" if len(names) == 1 and case.load is None else None
    return [finding(Kind.DIMENSIONS, case.case_id, f"4D of size {sides}: {found}", case.images[0].name, fix=fix)]


def _check_channels(loaded: LoadedCase, case: SourceCase) -> tuple[list[Volume], list[Finding]]:
    """The channels that hold numbers, and what is wrong with all of them."""
    finite: list[Volume] = []
    findings: list[Finding] = []
    for number, channel in enumerate(loaded.channels):
        path = channel.file or case.images[min(number, len(case.images) - 1)]
        wrong = inspect_image(case.case_id, path, channel.volume)
        if not any(one.severity == "error" for one in wrong):
            finite.append(channel.volume)
        grids = channel.volume.geometry, loaded.channels[0].volume.geometry
        findings += wrong + inspect_grid(case.case_id, path.name, *grids, f"channel 0 and channel {number}")
    return finite, findings


def _check_label(loaded: LoadedCase, case: SourceCase, dataset: SourceDataset) -> InspectedLabel:
    """The label as integers if it is one, and what is wrong with it."""
    if loaded.label is None:
        return InspectedLabel(None, {}, [])
    path, native = loaded.label.file or case.labels[0], loaded.label.volume
    findings = []
    if loaded.channels:
        grid = loaded.channels[0].volume.geometry
        findings += inspect_grid(case.case_id, path.name, native.geometry, grid, "image and label")
    values = set((dataset.labels or {}).values() if dataset.value_map is None else dataset.value_map)
    named_in = RawFolder.DESCRIPTION if dataset.value_map is None else "--labels"
    inspected = inspect_label(case.case_id, path, native, values - {0}, (0,), named_in)
    if inspected.labels is not None:
        findings += stored_as_floats(case.case_id, path, native)
    return replace(inspected, findings=findings + inspected.findings)
