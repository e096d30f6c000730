"""Everything below a folder: series of images, and the contours and segmentations drawn on them."""

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from moe_pipeline.errors import GeometryError, ImageError, PipelineError
from moe_pipeline.imaging.dicom.frame import Frame, frames_of, why_no_slice
from moe_pipeline.imaging.dicom.labels import LabelFile, fit, is_label_file, open_label_file
from moe_pipeline.imaging.dicom.library import interpreting, read_dataset
from moe_pipeline.imaging.dicom.series import candidates, is_image
from moe_pipeline.imaging.dicom.stack import SeriesVolume, volumes_of

_MIN_FIT = 0.5  # of contours or frames; cropped images lose some
_MAX_LISTED = 4


@dataclass(slots=True)
class ImageSeries:
    """The slices of one series, wherever they lie."""

    key: tuple[str, ...]
    """What tells it from other series: its UID alone does not, where somebody anonymised them all alike."""
    uid: str
    patient: str
    """Patient id; may be empty."""
    modality: str
    number: int | None
    """Series number within the study."""
    frames: list[Frame] = field(default_factory=list)
    fault: PipelineError | None = None
    """Why it cannot be used."""
    volumes: list[SeriesVolume] = field(default_factory=list)
    """Set once all slices are known."""

    @property
    def folder(self) -> Path:
        """Where most of its files lie."""
        return Counter(frame.path.parent for frame in self.frames).most_common(1)[0][0]

    @property
    def files(self) -> tuple[Path, ...]:
        """Every file of it, sorted."""
        return tuple(sorted({frame.path for frame in self.frames}))


@dataclass(frozen=True, slots=True)
class Tree:
    """What lies below a folder."""

    series: tuple[ImageSeries, ...]
    """By patient, then place."""
    labels: tuple[LabelFile, ...]
    """RTSTRUCT and SEG files."""
    faults: dict[Path, str]
    """Files that are DICOM and cannot be read, and why."""
    passed_over: dict[Path, str] = field(default_factory=dict)
    """Images that are no slices, and what they are."""


def read_tree(root: Path) -> Tree:
    """Look at every DICOM file below a folder, headers only. What is neither image, RTSTRUCT nor SEG is passed over.

    Raises:
        PipelineError: if pydicom is not installed.
    """
    series: dict[tuple[str, ...], ImageSeries] = {}
    passed_over: dict[Path, str] = {}
    labels: list[LabelFile] = []
    faults: dict[Path, str] = {}
    for path in _files_below(root):
        try:
            if is_label_file(path):
                labels.append(open_label_file(path))
            elif is_image(path):
                _add_image(path, series, passed_over)
        except OSError as error:
            faults[path] = f"{path}: cannot be opened ({error.strerror}). Open it for reading, or copy it again."
        except ImageError as error:
            faults[path] = str(error)
    series = _whole(series)
    for one in series.values():
        _complete(one)
    return Tree(
        tuple(sorted(series.values(), key=lambda one: (one.patient, one.folder, one.key))),
        tuple(labels),
        faults,
        passed_over,
    )


def series_of(label: LabelFile, series: tuple[ImageSeries, ...]) -> tuple[ImageSeries, str]:
    """The series that a label file was drawn on: one that it names, else the one of the patient whose slices fit.

    Returns:
        The series, and a note where it was found by geometry; of several that fit, the one that lies nearest is taken.

    Raises:
        ImageError: if there is none, or several are equally likely.
    """
    of_patient = [one for one in series if not label.patient or not one.patient or one.patient == label.patient]
    named = [one for one in of_patient if one.uid in label.series_uids]
    if len(named) == 1:
        return named[0], ""
    pool = named or of_patient
    scored = [(_fit_of(label, one), _shared_parts(label.path, one.folder), one) for one in pool]
    best = max((score for score, _, _ in scored), default=0.0)
    if best < _MIN_FIT:
        raise ImageError(
            f"{label.path}: no series that it was drawn on: it names {len(label.series_uids)} series, of which "
            f"{len(named)} are here, and at most {best:.0%} of its contours or frames lie on slices of the "
            f"{len(pool)} series of the patient {label.patient!r}. Put the series beside it."
        )
    fitting = [(shared, one) for score, shared, one in scored if score == best]
    nearest = [one for shared, one in fitting if shared == max(shared for shared, _ in fitting)]
    if len(nearest) > 1:
        listed = ", ".join(str(one.folder) for one in nearest[:_MAX_LISTED])
        raise ImageError(
            f"{label.path}: {len(nearest)} series fit it equally ({listed}), and it names none of them. "
            "Put it beside the series that it was drawn on, or convert that series alone."
        )
    return nearest[0], f"{label.path.name} names no series that is here; matched by geometry"


def _files_below(root: Path) -> Iterator[Path]:
    for folder, subfolders, _ in os.walk(root):
        subfolders[:] = sorted(name for name in subfolders if name[0] != ".")
        yield from candidates(Path(folder))


def _add_image(path: Path, series: dict[tuple[str, ...], ImageSeries], passed_over: dict[Path, str]) -> None:
    dataset = read_dataset(path)
    with interpreting(path):
        if why := why_no_slice(dataset):
            passed_over[path] = why
            return
    frames = frames_of(dataset, path)
    with interpreting(path):
        uid, number = str(dataset.get("SeriesInstanceUID") or path.parent), dataset.get("SeriesNumber")
        patient, modality = str(dataset.get("PatientID") or ""), str(dataset.get("Modality") or "")
        others = (dataset.get(name) for name in ("PatientName", "StudyInstanceUID"))
        key = (uid, patient, *(str(other or "") for other in others))
        new = ImageSeries(key, uid, patient, modality, None if number is None else int(number))
    series.setdefault(key, new).frames += frames


def _whole(series: dict[tuple[str, ...], ImageSeries]) -> dict[tuple[str, ...], ImageSeries]:
    """Series by UID, patient and study; where somebody gave each slice a study of its own, the study tells nothing."""
    parts: dict[tuple[str, ...], list[ImageSeries]] = {}
    for one in series.values():
        parts.setdefault(one.key[:-1], []).append(one)
    found: dict[tuple[str, ...], ImageSeries] = {}
    for key, members in parts.items():
        if len(members) > 1 and min(len(one.frames) for one in members) == 1:
            members[0].frames = [frame for one in members for frame in one.frames]
            found[key] = members[0]
        else:
            found |= {one.key: one for one in members}
    return found


def _complete(series: ImageSeries) -> None:
    try:
        series.volumes = volumes_of(series.frames, str(series.folder))
    except (ImageError, GeometryError) as error:
        series.fault = error


def _fit_of(label: LabelFile, series: ImageSeries) -> float:
    return fit(label.path, series.volumes[0].stack.geometry) if series.volumes else 0.0


def _shared_parts(one: Path, other: Path) -> int:
    return len(Path(os.path.commonpath([one, other])).parts)
