"""Reading and writing image files. In memory everything is canonical (RAS+); on disk it keeps its own grid."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from moe_pipeline.errors import ImageError
from moe_pipeline.files import is_file
from moe_pipeline.imaging import dicom
from moe_pipeline.imaging.geometry import Geometry
from moe_pipeline.imaging.io.channels import first_channels
from moe_pipeline.imaging.io.formats import SUFFIXES, fault_of_format, has_image_suffix
from moe_pipeline.imaging.io.native import read_geometry, read_native, write_native
from moe_pipeline.imaging.padding import without_padding
from moe_pipeline.imaging.volume import LoadedImage, Volume, to_canonical, to_grid_orientation
from moe_pipeline.records.names import composed

__all__ = [
    "ROUNDING_TOLERANCE",
    "SUFFIXES",
    "Listing",
    "as_labels",
    "case_id_of",
    "fault_of_format",
    "check_finite",
    "has_image_suffix",
    "images_in",
    "label_counts",
    "label_maps_in",
    "label_values",
    "list_images",
    "list_label_maps",
    "load_image",
    "read_geometry",
    "read_label_map",
    "read_volume",
    "write_image",
    "write_label_map",
]

ROUNDING_TOLERANCE = 1e-2
"""What a fraction of a label may be at most to pass for the noise of a computation."""
_LARGEST = 1e18  # the squares of much larger numbers are infinite in single precision


def read_volume(path: Path, dtype: DTypeLike = np.float32) -> Volume:
    """As `load_image`, where the grid that the image is stored on does not matter."""
    return load_image(path, dtype).volume


def load_image(path: Path, dtype: DTypeLike = np.float32) -> LoadedImage:
    """One channel of a 3D image file, or of a folder with one DICOM series: header and voxels, read once.

    Padding of CT is set to air (see `padding`).

    Raises:
        ImageError: if it is no single 3D channel of finite numbers; names the file, what was found and what to do.
        GeometryError: if its grid is sheared or has no positive spacing.
    """
    native = read_native(path)
    check_finite(native.array, path)
    wanted = native.array.astype(dtype, copy=False)
    return LoadedImage.of(without_padding(Volume(wanted, native.geometry)))


def check_finite(array: NDArray[Any], path: Path) -> None:
    """Refuse NaN, infinity, and numbers that no single precision can compute with.

    Args:
        array: any number type.
        path: where it comes from, for the message.

    Raises:
        ImageError: says how many there are, or how large.
    """
    if not np.issubdtype(array.dtype, np.floating):
        return
    lowest, highest = _extremes(array)
    if not np.isfinite([lowest, highest]).all():
        n_bad = int(np.count_nonzero(~np.isfinite(array)))
        message = f"{path}: {n_bad} voxels are NaN or infinite. Replace them by numbers before using it."
        raise ImageError(message, kind="not_finite")
    if max(-lowest, highest) > _LARGEST:
        found = f"{path}: its voxels reach from {lowest:g} to {highest:g}; expected numbers of at most {_LARGEST:g}"
        raise ImageError(f"{found}. Replace or rescale them before using it.", kind="not_finite")


def read_label_map(path: Path) -> Volume:
    """A label file as integers in canonical orientation. Whole numbers stored as floats are accepted.

    Raises:
        ImageError: as `load_image`, and for negative or fractional values (a soft or probability label).
        GeometryError: as `load_image`.
    """
    return to_canonical(as_labels(read_native(path), path))


def as_labels(volume: Volume, path: Path) -> Volume:
    """The same voxels as uint8, or uint16 where a value is above 255.

    Args:
        volume: any number type.
        path: where it comes from, for messages.

    Raises:
        ImageError: for negative, fractional, too large or missing values.
    """
    array = volume.array
    lowest, highest = _extremes(array)
    if not (np.isfinite(lowest) and np.isfinite(highest)):
        raise ImageError(f"{path}: a label map needs whole numbers, found NaN or infinity.", kind="not_finite")
    if lowest < 0 or highest > np.iinfo(np.uint16).max:
        message = f"{path}: labels must lie in 0..65535, found {lowest:g}..{highest:g}."
        raise ImageError(message, kind="unknown_labels")
    labels = array.astype(np.uint8 if highest <= np.iinfo(np.uint8).max else np.uint16, copy=False)
    if not np.issubdtype(array.dtype, np.integer) and not np.array_equal(labels, array):
        raise _not_whole(array, labels, path)
    return Volume(labels, volume.geometry)


def _not_whole(array: NDArray[Any], labels: NDArray[Any], path: Path) -> ImageError:
    """What to say of a label map with fractions: rounding noise, or something else altogether."""
    fractions = array[labels != array]
    example = f"{fractions[0]:.6g}" if f"{fractions[0]:.6g}".strip("-0123456789") else f"{fractions[0]:.9g}"
    found = f"{path}: a label map needs whole numbers, found {example} among others"
    if np.abs(fractions - np.rint(fractions)).max() <= ROUNDING_TOLERANCE:
        return ImageError(f"{found}: whole numbers but for rounding. Round them.", kind="float_labels")
    span = f"(range {array.min():g}..{array.max():g})"
    return ImageError(f"{found} {span}. It may be a soft label or an image; threshold it first.", kind="soft_labels")


def label_values(labels: NDArray[Any]) -> list[int]:
    """Distinct values of a label map, (x, y, z) unsigned integers, in order."""
    return list(label_counts(labels))


def label_counts(labels: NDArray[Any]) -> dict[int, int]:
    """Voxels of each value that a label map, (x, y, z) unsigned integers, holds; in order."""
    slabs = np.moveaxis(labels, int(np.argmax(np.abs(labels.strides))), 0)  # slowest axis first
    counts = np.zeros(int(labels.max()) + 1, dtype=np.int64)
    for slab in slabs:  # slab by slab: counting makes a copy of 8 bytes per voxel
        counts += np.bincount(slab.ravel(order="K"), minlength=counts.size)
    return {int(value): int(counts[value]) for value in np.flatnonzero(counts)}


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


@dataclass(frozen=True, slots=True)
class Listing:
    """The files of a folder by case."""

    files: tuple[tuple[str, Path], ...]
    """Case id and path, sorted by id."""
    doubled: dict[str, str]
    """Cases of which there are several files, and which."""
    paths: tuple[Path, ...] = ()
    """All files, those of further channels and of doubled cases included."""


def images_in(folder: Path) -> Listing:
    """Every image in a folder by case id: files in our formats and DICOM series folders.

    Series may lie deeper, as in patient/study/series, which is the case patient_study_series; or the folder is one.
    In a folder of nnU-Net channels (case_0000, case_0001; see `imaging.channels`) the ids are without that ending and
    the first channel stands for the case.

    Raises:
        ImageError: if the folder is missing, or numbered cases look like channels.
    """
    found = _by_id(folder)
    cases = first_channels(folder, [(name, paths[0]) for name, paths in found.items()])
    ids = {case for case, _ in cases}
    doubled: dict[str, str] = {}
    for name, paths in found.items():
        if len(paths) > 1:
            stem = name.rpartition("_")[0]
            doubled[stem if name not in ids and stem in ids else name] = _doubled(folder, name, paths)
    return Listing(tuple(one for one in cases if one[0] not in doubled), doubled, _flat(found))


def label_maps_in(folder: Path) -> Listing:
    """Every label map in a folder by case id. Label maps have no channels: no ending is cut.

    Raises:
        ImageError: if the folder is missing.
    """
    found = _by_id(folder)
    doubled = {name: _doubled(folder, name, paths) for name, paths in found.items() if len(paths) > 1}
    files = tuple((name, paths[0]) for name, paths in found.items() if name not in doubled)
    return Listing(files, doubled, _flat(found))


def list_images(folder: Path) -> list[tuple[str, Path]]:
    """As `images_in`, where every case must have one file.

    Raises:
        ImageError: also if two files claim one id.
    """
    return _undoubled(images_in(folder))


def list_label_maps(folder: Path) -> list[tuple[str, Path]]:
    """As `label_maps_in`, where every case must have one file.

    Raises:
        ImageError: also if two files claim one id.
    """
    return _undoubled(label_maps_in(folder))


def _undoubled(found: Listing) -> list[tuple[str, Path]]:
    if found.doubled:
        raise ImageError("; ".join(found.doubled.values()))
    return list(found.files)


def _by_id(folder: Path) -> dict[str, list[Path]]:
    if not folder.is_dir():
        raise ImageError(f"{folder}: no such folder; expected images ({', '.join(SUFFIXES)}) or DICOM series folders.")
    files = [path for path in folder.iterdir() if not path.name.startswith(".") and is_file(path)]
    images = [(case_id_of(path), path) for path in files if has_image_suffix(path)]
    found: dict[str, list[Path]] = {}
    for name, path in sorted([*images, *((_series_id(path, folder), path) for path in dicom.series_folders(folder))]):
        found.setdefault(name, []).append(path)
    return found


def _flat(found: dict[str, list[Path]]) -> tuple[Path, ...]:
    return tuple(path for paths in found.values() for path in paths)


def _doubled(folder: Path, name: str, paths: list[Path]) -> str:
    return f"{folder}: two images for the case {name}: {' and '.join(path.name for path in paths)}. Keep one."


def _series_id(path: Path, folder: Path) -> str:
    return composed("_".join(path.relative_to(folder).parts) or folder.resolve().name)


def case_id_of(path: Path) -> str:
    """File name without an image suffix, or the name of a DICOM folder; in Unicode's composed form."""
    suffix = next((suffix for suffix in SUFFIXES if path.name.lower().endswith(suffix)), "")
    return composed(path.name[: len(path.name) - len(suffix)])


def _extremes(array: NDArray[Any]) -> tuple[float, float]:
    return float(array.min()), float(array.max())  # NaN and infinity show in one of them


def _write(volume: Volume, path: Path, native: Geometry, dtype: DTypeLike) -> None:
    on_grid = to_grid_orientation(volume, native)
    write_native(Volume(on_grid.array.astype(dtype), native), path)
