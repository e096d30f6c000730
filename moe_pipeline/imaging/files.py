"""Reading and writing image files. In memory everything is canonical (RAS+); on disk it keeps its own grid."""

import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from moe_pipeline.errors import GeometryError, ImageError
from moe_pipeline.files import atomic_path
from moe_pipeline.imaging import dicom, nifti
from moe_pipeline.imaging.geometry import Geometry
from moe_pipeline.imaging.itk import geometry_of, image_from_volume, sitk, volume_from_image
from moe_pipeline.imaging.orientation import to_canonical, to_grid_orientation
from moe_pipeline.imaging.volume import Volume

SUFFIXES = (".nii.gz", ".nii", ".nrrd", ".mha", ".mhd")
WRITABLE_SUFFIXES = (".nii.gz", ".nii", ".nrrd", ".mha")
_CHANNEL = re.compile(r"(.+)_(\d{4})")


def read_volume(path: Path, dtype: DTypeLike = np.float32) -> Volume:
    """One channel of a 3D image file, or of a folder with one DICOM series, in canonical orientation.

    Raises:
        ImageError: if it is no single 3D channel of finite numbers; names the file, what was found and what to do.
        GeometryError: if its grid is sheared or has no positive spacing.
    """
    array, geometry = _read_native(path)
    wanted = array.astype(dtype, copy=False)
    if np.issubdtype(wanted.dtype, np.floating) and not np.isfinite(_extremes(wanted)).all():
        n_bad = int(np.count_nonzero(~np.isfinite(wanted)))
        raise ImageError(f"{path}: {n_bad} voxels are NaN or infinite. Replace them by numbers before using it.")
    return to_canonical(Volume(wanted, geometry))


def read_label_map(path: Path) -> Volume:
    """A label file as integers in canonical orientation. Whole numbers stored as floats are accepted.

    Raises:
        ImageError: as `read_volume`, and for negative or fractional values (a soft or probability label).
        GeometryError: as `read_volume`.
    """
    array, geometry = _read_native(path)
    lowest, highest = _extremes(array)
    if not (np.isfinite(lowest) and np.isfinite(highest)):
        raise ImageError(f"{path}: a label map needs whole numbers, found NaN or infinity.")
    if lowest < 0 or highest > np.iinfo(np.uint16).max:
        raise ImageError(f"{path}: labels must lie in 0..65535, found {lowest:g}..{highest:g}.")
    labels = array.astype(np.uint8 if highest <= np.iinfo(np.uint8).max else np.uint16)
    if not np.issubdtype(array.dtype, np.integer) and not np.array_equal(labels, array):
        example = array[labels != array][0]
        raise ImageError(
            f"{path}: a label map needs whole numbers, found {example:g} among others (range {lowest:g}..{highest:g}). "
            "It may be a soft label or an image; threshold it first."
        )
    return to_canonical(Volume(labels, geometry))


def read_geometry(path: Path) -> Geometry:
    """Grid of an image as stored, from its header alone.

    Raises:
        ImageError: if it is no 3D image.
        GeometryError: if its grid is sheared or has no positive spacing.
    """
    if path.is_dir():
        return dicom.read_series(path).geometry
    return _geometry(path, _read_header(path))


def write_label_map(volume: Volume, path: Path, native: Geometry) -> None:
    """Write a canonical label map on the grid `native` of the image it belongs to; uint8, or uint16 above 255.

    Raises:
        GeometryError: if the volume does not lie on the canonical form of `native`.
        ImageError: if a label is negative or above 65535, or the suffix is none of ours.
    """
    if not np.issubdtype(volume.array.dtype, np.integer) and volume.array.dtype != np.bool_:
        raise ImageError(f"{path}: a label map needs an integer array, got {volume.array.dtype}.")
    lowest, highest = int(volume.array.min()), int(volume.array.max())
    if lowest < 0 or highest > np.iinfo(np.uint16).max:
        raise ImageError(f"{path}: labels must lie in 0..65535, got {lowest}..{highest}.")
    dtype = np.uint8 if highest <= np.iinfo(np.uint8).max else np.uint16
    _write(volume, path, native, dtype)


def write_image(volume: Volume, path: Path, native: Geometry) -> None:
    """Write a canonical image on the grid `native`, as float32.

    Raises:
        GeometryError: if the volume does not lie on the canonical form of `native`.
        ImageError: if the suffix is none of ours.
    """
    _write(volume, path, native, np.float32)


def list_images(folder: Path) -> list[tuple[str, Path]]:
    """Case id and path of every image in a folder, sorted by id: files in our formats and DICOM series folders.

    In a folder of nnU-Net channels (every name ends in _0000, _0001, ... and each case has a _0000) the ids are
    without that ending and the first channel stands for the case.

    Raises:
        ImageError: if the folder is missing or two files claim one id.
    """
    if not folder.is_dir():
        raise ImageError(f"{folder}: no such folder; expected images ({', '.join(SUFFIXES)}) or DICOM series folders.")
    paths = [path for path in folder.iterdir() if not path.name.startswith(".")]
    images = [path for path in paths if (path.is_file() and has_image_suffix(path)) or dicom.is_series_folder(path)]
    named = sorted((case_id_of(path), path) for path in images)
    for (first, one), (second, other) in pairwise(named):
        if first == second:
            raise ImageError(f"{folder}: two images for the case {first}: {one.name} and {other.name}. Keep one.")
    return _first_channels(named)


def case_id_of(path: Path) -> str:
    """File name without an image suffix, or the name of a DICOM folder."""
    suffix = next((suffix for suffix in SUFFIXES if path.name.lower().endswith(suffix)), "")
    return path.name[: len(path.name) - len(suffix)]


def has_image_suffix(path: Path) -> bool:
    """Whether the name ends like an image file that we read."""
    return path.name.lower().endswith(SUFFIXES)


def _first_channels(named: list[tuple[str, Path]]) -> list[tuple[str, Path]]:
    ids = {case_id for case_id, _ in named}
    matches = [_CHANNEL.fullmatch(case_id) for case_id in ids]
    if not all(match and f"{match[1]}_0000" in ids for match in matches):
        return named
    return [(case_id.removesuffix("_0000"), path) for case_id, path in named if case_id.endswith("_0000")]


def _read_native(path: Path) -> tuple[NDArray[Any], Geometry]:
    if path.is_dir():
        image = volume_from_image(dicom.read_series(path).image)
        return image.array, image.geometry
    reader = _read_header(path)
    geometry = _geometry(path, reader)
    voxels = nifti.read_voxels(path) if nifti.is_nifti(path) else None
    if voxels is not None:
        return voxels.reshape(geometry.shape, order="F"), geometry
    reader.SetExtractSize([*geometry.shape, 0][: reader.GetDimension()])
    try:
        return volume_from_image(reader.Execute()).array, geometry
    except RuntimeError as error:
        raise ImageError(f"{path}: cannot be read: {itk_reason(error)}. Copy or export it again.") from error


def _read_header(path: Path) -> Any:
    if not path.is_file():
        raise ImageError(f"{path}: no such file.")
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        if "orthonormal" in str(error):
            raise GeometryError(
                f"{path}: its index axes are not orthogonal (sheared grid). Resample it first."
            ) from error
        raise ImageError(f"{path}: not a readable image, or damaged: {itk_reason(error)}.") from error
    return reader


def _geometry(path: Path, reader: Any) -> Geometry:
    size = reader.GetSize()
    if len(size) != 3 and not (len(size) == 4 and size[3] == 1):
        sides = "x".join(map(str, size))
        advice = "Split it into one file per channel or time point." if len(size) > 3 else "Slices must be stacked."
        raise ImageError(f"{path}: expected a 3D image, found {len(size)}D of size {sides}. {advice}")
    if reader.GetNumberOfComponents() != 1 or "complex" in sitk.GetPixelIDValueAsString(reader.GetPixelIDValue()):
        raise ImageError(
            f"{path}: expected one number per voxel, found {reader.GetNumberOfComponents()} "
            f"({sitk.GetPixelIDValueAsString(reader.GetPixelIDValue())}; colour?). Convert it to one channel."
        )
    try:
        return geometry_of(reader)
    except GeometryError as error:
        raise GeometryError(f"{path}: {error}") from error


def itk_reason(error: RuntimeError) -> str:
    """What ITK says went wrong, in one line and without the place in its source."""
    lines = [line.strip() for line in str(error).splitlines()]
    told = [re.sub(r"^(sitk::|itk::|ITK )ERROR: (\w+\(0x\w+\): )?", "", line) for line in lines[1:] if line]
    return " ".join(told).rstrip(".") or str(error)


def _extremes(array: NDArray[Any]) -> tuple[float, float]:
    return float(array.min()), float(array.max())  # NaN and infinity show in one of them


def _write(volume: Volume, path: Path, native: Geometry, dtype: DTypeLike) -> None:
    if not path.name.lower().endswith(WRITABLE_SUFFIXES):
        raise ImageError(f"{path}: cannot be written; choose a name that ends in {', '.join(WRITABLE_SUFFIXES)}.")
    on_grid = to_grid_orientation(volume, native)
    image = image_from_volume(Volume(on_grid.array.astype(dtype), native))
    with atomic_path(path) as temporary:
        sitk.WriteImage(image, str(temporary), useCompression=not path.name.lower().endswith(".nii"))
