"""Folders with one DICOM series. Slices that do not stack evenly are refused: ITK would stack them all the same."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moe_pipeline.errors import ImageError
from moe_pipeline.imaging.geometry import Geometry
from moe_pipeline.imaging.itk import geometry_of, sitk

_POSITION, _ORIENTATION = "0020|0032", "0020|0037"
_GAP_TOLERANCE = 0.02  # of the median gap; positions are decimal text in the files


@dataclass(frozen=True, slots=True, eq=False)
class Series:
    """One series as ITK read it, and its native grid."""

    image: Any
    geometry: Geometry


def is_series_folder(path: Path) -> bool:
    """Whether a folder holds DICOM files, judged by its first file."""
    if not path.is_dir():
        return False
    first = min((child for child in path.iterdir() if child.is_file() and child.name[0] != "."), default=None)
    if first is None:
        return False
    with first.open("rb") as stream:
        return stream.read(132)[128:] == b"DICM"


def read_series(folder: Path) -> Series:
    """The one series of a folder.

    Raises:
        ImageError: if there is none or several, slices are missing, doubled, unevenly spaced or sheared, or unreadable.
    """
    ids = sitk.ImageSeriesReader.GetGDCMSeriesIDs(str(folder))
    if not ids:
        raise ImageError(f"{folder}: no DICOM series found. Give a folder with one series, or an image file.")
    if len(ids) > 1:
        counts = [len(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder), uid)) for uid in ids]
        sizes = ", ".join(f"{n} slices" for n in counts)
        raise ImageError(f"{folder}: {len(ids)} DICOM series ({sizes}). Put each series into a folder of its own.")
    files = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder), ids[0])
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(files)
    try:
        if len(files) > 1:
            _check_slices(folder, files)
        image = reader.Execute()
    except RuntimeError as error:
        reason = str(error).splitlines()[-1]
        raise ImageError(f"{folder}: the DICOM series cannot be read: {reason}. Export it again.") from error
    if image.GetDimension() != 3 or image.GetNumberOfComponentsPerPixel() != 1:
        raise ImageError(f"{folder}: expected grey slices that stack to 3D, found {image.GetPixelIDTypeAsString()}.")
    return Series(image, geometry_of(image))


def _check_slices(folder: Path, files: tuple[str, ...]) -> None:
    headers = [_placement(path) for path in files]
    orientation = headers[0][1]
    if max(np.abs(other - orientation).max() for _, other in headers) > 1e-3:
        raise ImageError(f"{folder}: slices of one series have different orientations. Split it by orientation.")
    positions = np.array([position for position, _ in headers])  # (n, 3)
    normal = np.cross(orientation[:3], orientation[3:])
    steps = np.diff(positions[np.argsort(positions @ normal)], axis=0)  # (n - 1, 3)
    gaps = steps @ normal
    usual = float(np.median(gaps))
    if gaps.min() < 1e-3:
        doubled = int((gaps < 1e-3).sum())
        raise ImageError(
            f"{folder}: {doubled} of {len(files)} slices lie at the place of another one: several volumes in one "
            "series (time points, b-values, echoes). Split them into folders."
        )
    if np.abs(gaps - usual).max() > _GAP_TOLERANCE * usual:
        raise ImageError(
            f"{folder}: slices are {gaps.min():.3g} to {gaps.max():.3g} mm apart, usually {usual:.3g} mm: "
            "some are missing or unevenly spaced. Export the full series."
        )
    sideways = np.abs(steps - gaps[:, None] * normal).max()
    if sideways > _GAP_TOLERANCE * usual:
        raise ImageError(
            f"{folder}: slices are shifted sideways by {sideways:.3g} mm each (gantry tilt). Resample first."
        )


def _placement(path: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    reader = sitk.ImageFileReader()
    reader.SetFileName(path)
    reader.ReadImageInformation()
    if not (reader.HasMetaDataKey(_POSITION) and reader.HasMetaDataKey(_ORIENTATION)):
        raise ImageError(f"{path}: a slice without position or orientation; it cannot be placed in the patient.")
    position, orientation = (
        np.array([float(number) for number in reader.GetMetaData(key).split("\\")]) for key in (_POSITION, _ORIENTATION)
    )
    return position, orientation
