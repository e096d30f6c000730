"""Is a volume what it should be? Small checks from volumes to findings; nothing is raised, all is collected.

Shared by the check of a raw source and by planning, which looks at the same files again for its fingerprint.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from moe_pipeline.errors import PipelineError, in_words
from moe_pipeline.imaging.checks.repair import can_snap
from moe_pipeline.imaging.geometry import Geometry
from moe_pipeline.imaging.io.files import as_labels, check_finite, label_counts
from moe_pipeline.imaging.volume import Volume
from moe_pipeline.paths import RawFolder
from moe_pipeline.records.check import Finding, Fix, Kind, Severity

_Result = TypeVar("_Result")
_MAX_LISTED = 10
_LONGEST_MM = (1.0, 3_000.0)  # sides of what is scanned
_ADVICE: dict[Kind, tuple[str, str]] = {
    Kind.LAYOUT: ("one dataset in a known layout", "Follow the message."),
    Kind.MISSING_FILE: ("every file that the dataset names", "Bring the file back, or take the case off the list."),
    Kind.ORPHAN_FILE: ("an image and a label of the same name", "Add the other file, or remove this one."),
    Kind.UNREADABLE: ("a readable image file", "Copy or export it again."),
    Kind.TRUNCATED: ("a file with all of its bytes", "Copy or export it again; the rest of it is lost."),
    Kind.DIMENSIONS: ("one 3D volume with one number per voxel", "Stack, split or convert it to grey volumes."),
    Kind.NOT_FINITE: ("finite numbers", "Replace NaN and infinity by numbers, or export it again."),
    Kind.GEOMETRY: ("the same grid for all files of a case", "Resample one onto the other's grid, or export it again."),
    Kind.HEADER: ("one place and spacing for each voxel", "Choose with --fix, or correct the header."),
    Kind.SPACING: ("spacing in mm", "Write the spacing in mm into the header, or export it again."),
    Kind.NO_CONTRAST: ("an image that shows something", "Export it again, or leave the case out."),
    Kind.SHEARED: ("index axes at right angles", "Resample it onto an upright grid."),
    Kind.UNKNOWN_LABELS: ("the values that the dataset names", "Name them, or map them with --labels map.json."),
    Kind.FLOAT_LABELS: ("label values stored as whole numbers", "Round them."),
    Kind.SOFT_LABELS: ("whole numbers, one per class", "Threshold it where the class begins, e.g. at 0.5."),
    Kind.EMPTY_LABEL: ("at least one voxel of a class", "Annotate it, or leave the case out."),
    Kind.DUPLICATE: ("every image once", "Keep one of them."),
    Kind.MISSING_SLICES: ("evenly spaced slices", "Export the full series."),
    Kind.IRREGULAR_SLICES: ("evenly spaced slices", "Export the full series, or resample it by position."),
    Kind.TILTED_SLICES: ("slices stacked at right angles", "Undo the gantry tilt by resampling."),
    Kind.SEVERAL_VOLUMES: ("one volume per series", "Split the series by time point, b-value or echo."),
    Kind.PATIENT_ON_BOTH_SIDES: ("each patient on one side", "Move all scans of a patient to one side."),
    Kind.ONE_PATIENT: ("several patients", "Say who is who, if they are several."),
    Kind.OUTLIER: ("numbers like those of the other cases", "Look at it: another body part, unit or scanner?"),
}


def finding(
    kind: Kind, case_id: str, found: str, file: str = "", severity: Severity = "error", fix: Fix | None = None
) -> Finding:
    """A finding with the advice of its kind."""
    expected, repair = _ADVICE[kind]
    repair = f"moe convert --fix {fix} repairs it, or: {repair}" if fix else repair
    return Finding(
        case_id=case_id, file=file, kind=kind, severity=severity, found=found, expected=expected, repair=repair, fix=fix
    )


def attempt(case_id: str, path: Path | None, work: Callable[[], _Result]) -> tuple[_Result | None, list[Finding]]:
    """The result of some work on a file, or on several if none is named; or None and why there is none."""
    try:
        return work(), []
    except (PipelineError, OSError) as error:
        return None, [of_error(case_id, path, error)]


def of_error(case_id: str, path: Path | None, error: PipelineError | OSError) -> Finding:
    """What an error says as a finding; about the file that it begins with, or else `path`."""
    kind = Kind(error.kind) if isinstance(error, PipelineError) and error.kind else Kind.UNREADABLE
    told = in_words(error) if isinstance(error, OSError) else str(error)
    head, _, tail = told.partition(": ")
    if tail and "/" in head and Path(head).exists():
        file, found = Path(head).name, tail
    else:
        file, found = (path.name if path else ""), told.removeprefix(f"{path}: ")
    return finding(kind, case_id, found, file, fix="round" if kind == Kind.FLOAT_LABELS else None)


def inspect_grid(case_id: str, file: str, grid: Geometry, reference: Geometry, what: str) -> list[Finding]:
    """Whether a file lies on the grid that it should.

    Args:
        case_id: for the finding.
        file: that is looked at.
        grid: its own.
        reference: that of the image.
        what: which two are compared: "image and label".
    """
    differences = reference.differences(grid)
    if not differences:
        return []
    fix: Fix | None = "resample-labels" if what.endswith("label") else None
    fix = "snap" if can_snap(grid, reference) else fix
    return [finding(Kind.GEOMETRY, case_id, f"{what} lie on different grids: {'; '.join(differences)}", file, fix=fix)]


def inspect_image(case_id: str, path: Path, volume: Volume) -> list[Finding]:
    """Whether the voxels of an image are numbers that differ, of a size in mm that can be, in three dimensions."""
    findings = attempt(case_id, path, lambda: check_finite(volume.array, path))[1]
    lowest, highest = volume.array.min(), volume.array.max()
    if not findings and lowest == highest:
        findings.append(finding(Kind.NO_CONTRAST, case_id, f"every voxel of the image is {lowest:g}", path.name))
    longest = max(volume.geometry.extent_mm)
    if not _LONGEST_MM[0] <= longest <= _LONGEST_MM[1]:
        sides = "x".join(f"{mm:.3g}" for mm in volume.geometry.extent_mm)
        found = f"the image is {sides} mm in size: is its spacing in other units than mm?"
        findings.append(finding(Kind.SPACING, case_id, found, path.name))
    if min(volume.geometry.shape) == 1:
        found = f"a single slice: size {'x'.join(map(str, volume.geometry.shape))}"
        findings.append(finding(Kind.DIMENSIONS, case_id, found, path.name, "warning"))
    return findings


@dataclass(frozen=True, slots=True, eq=False)
class InspectedLabel:
    """A label file, looked through."""

    labels: Volume | None
    """The labels as unsigned integers; None if they are none."""
    counts: dict[int, int]
    """Voxels of each value that is there."""
    findings: list[Finding]
    """What is wrong."""


def inspect_label(
    case_id: str,
    path: Path,
    volume: Volume,
    classes: Collection[int],
    others: Collection[int] = (0,),
    named_in: str = RawFolder.DESCRIPTION,
) -> InspectedLabel:
    """Whether a volume is a label map of certain classes.

    Args:
        case_id: for the findings.
        path: of the label file.
        volume: any number type.
        classes: values that it may have and should have at least one of; empty if they are not known.
        others: values that it may have as well: background, ignore.
        named_in: what names the values.
    """
    labels, findings = attempt(case_id, path, lambda: as_labels(volume, path))
    if labels is None:
        return InspectedLabel(None, {}, findings)
    counts = label_counts(labels.array)
    known = {*classes, *others}
    unknown = [str(value) for value in counts if value not in known] if classes else []
    if unknown:
        named = ", ".join(str(value) for value in sorted(known))
        found = f"label values {', '.join(unknown[:_MAX_LISTED])} are not in {named_in} ({named})"
        findings.append(finding(Kind.UNKNOWN_LABELS, case_id, found, path.name))
    elif not any(value in classes if classes else value > 0 for value in counts):
        found = "no voxel of any class; the case cannot be trained on"
        findings.append(finding(Kind.EMPTY_LABEL, case_id, found, path.name, "warning"))
    return InspectedLabel(labels, counts, findings)


def stored_as_floats(case_id: str, path: Path, volume: Volume) -> list[Finding]:
    """A note that whole numbers are stored as something else; conversion writes them anew."""
    if np.issubdtype(volume.array.dtype, np.integer):
        return []
    found = f"whole numbers stored as {volume.array.dtype}; conversion writes them as integers"
    return [finding(Kind.FLOAT_LABELS, case_id, found, path.name, "note", "round")]
