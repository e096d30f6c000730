"""A folder with one DICOM series as a volume."""

from pathlib import Path

from moe_pipeline.errors import ImageError
from moe_pipeline.imaging.dicom.frame import Frame, frames_of
from moe_pipeline.imaging.dicom.library import is_dicom, read_dataset, storage_class
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
    return path.is_dir() and any(is_image(file) for file in dicom_files(path))


def series_folders(folder: Path) -> list[Path]:
    """The folder itself or every folder below it that holds DICOM images, sorted; nothing below those."""
    if not folder.is_dir():
        return []
    if is_series_folder(folder):
        return [folder]
    below = sorted(path for path in folder.iterdir() if path.is_dir() and path.name[0] != ".")
    return [found for path in below for found in series_folders(path)]


def dicom_files(folder: Path) -> list[Path]:
    """DICOM files that lie in a folder, not below it, sorted."""
    files = sorted(path for path in folder.iterdir() if path.name[0] != "." and path.is_file())
    return [path for path in files if not path.name.lower().endswith(_OTHER_SUFFIXES) and is_dicom(path)]


def is_image(path: Path) -> bool:
    """Whether a DICOM file stores an image, judged by its kind; a file that does not say its kind may be one."""
    kind = storage_class(path)
    return not kind or (kind.startswith(_STORAGE) and kind.removeprefix(_STORAGE).split(".")[0] not in _IMAGELESS)


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
    for path in dicom_files(folder):
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
