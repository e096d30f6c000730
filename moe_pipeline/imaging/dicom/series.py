"""A folder with one DICOM series as a volume."""

from collections.abc import Iterator
from pathlib import Path

from moe_pipeline.errors import ImageError
from moe_pipeline.files import is_file, is_folder
from moe_pipeline.imaging.dicom.frame import Frame, frames_of
from moe_pipeline.imaging.dicom.library import read_dataset, storage_class
from moe_pipeline.imaging.dicom.pixels import read_stack
from moe_pipeline.imaging.dicom.stack import Stack, stack_frames
from moe_pipeline.imaging.geometry import Geometry
from moe_pipeline.imaging.volume import Volume

_STORAGE = "1.2.840.10008.5.1.4.1.1."
_IMAGELESS = {"481", "66", "67", "88", "11", "104", "9", "77", "78", "79", "80", "81", "82", "68", "90", "131", "200"}
"""Families of stored objects that are no slices of a patient: plans, segmentations, reports, waveforms, ..."""
_OTHER_SUFFIXES = (".nii", ".gz", ".nrrd", ".mha", ".mhd", ".json", ".csv", ".txt", ".npz", ".png", ".jpg")


def is_series_folder(path: Path) -> bool:
    """Whether there is a DICOM image among the files of a folder; looks at the start of files, needs no pydicom."""
    return is_folder(path) and any(is_image(file) for file in candidates(path))


def series_folders(folder: Path) -> list[Path]:
    """The folder itself or every folder below it that holds DICOM images, sorted; nothing below those."""
    return list(find_series_folders(folder))


def find_series_folders(folder: Path) -> Iterator[Path]:
    """As `series_folders`, one after the other."""
    if is_series_folder(folder):
        yield folder
    elif is_folder(folder):
        for path in (path for path in _inside(folder) if is_folder(path) and path.name[0] != "."):
            yield from find_series_folders(path)


def candidates(folder: Path) -> list[Path]:
    """Files that lie in a folder, not below it, and may be DICOM by their names, which need no suffix; sorted."""
    return [
        path
        for path in _inside(folder)
        if path.name[0] != "." and not path.name.lower().endswith(_OTHER_SUFFIXES) and is_file(path)
    ]


def _inside(folder: Path) -> list[Path]:
    """What lies in a folder, sorted; nothing if it cannot be opened, which who walks the whole tree says."""
    try:
        return sorted(folder.iterdir())
    except PermissionError:
        return []


def is_image(path: Path) -> bool:
    """Whether a file is DICOM and stores an image, judged by its kind; one that does not say its kind may be one."""
    try:
        kind = storage_class(path)
    except OSError:
        return False  # it cannot be opened, which whoever counts the files says
    return kind is not None and (
        not kind or (kind.startswith(_STORAGE) and kind.removeprefix(_STORAGE).split(".")[0] not in _IMAGELESS)
    )


def read_series(folder: Path) -> Volume:
    """The one series of a folder, as stored: index axes along rows, along columns and across slices.

    Raises:
        ImageError: if there is none or several, or its slices are missing, doubled, uneven, sheared or unreadable.
        GeometryError: if its axes are not orthogonal.
        PipelineError: if pydicom is not installed.
    """
    return read_stack(find_stack(folder))


def read_series_geometry(folder: Path) -> Geometry:
    """Grid of the one series of a folder, from its headers; raises as `read_series`."""
    return find_stack(folder).geometry


def find_stack(folder: Path) -> Stack:
    """The slices of the one series of a folder, in order; raises as `read_series`."""
    series: dict[str, list[Frame]] = {}
    for path in candidates(folder):
        if is_image(path):
            dataset = read_dataset(path)
            series.setdefault(str(dataset.get("SeriesInstanceUID", "")), []).extend(frames_of(dataset, path))
    if not series:
        raise ImageError(f"{folder}: no DICOM series found. Give a folder with one series, or an image file.")
    if len(series) > 1:
        sizes = ", ".join(f"{len(frames)} slices" for frames in series.values())
        raise ImageError(f"{folder}: {len(series)} DICOM series ({sizes}). Put each series into a folder of its own.")
    (frames,) = series.values()
    return stack_frames(frames, str(folder))
