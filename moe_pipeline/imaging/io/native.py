"""Image files as they are stored: their own axis order and number type."""

import errno
import os
import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moe_pipeline.errors import GeometryError, ImageError
from moe_pipeline.files import atomic_path
from moe_pipeline.imaging import dicom
from moe_pipeline.imaging.geometry import Geometry
from moe_pipeline.imaging.io import nifti
from moe_pipeline.imaging.io.formats import SUFFIXES, fault_of_format, has_image_suffix
from moe_pipeline.imaging.io.nifti_place import place
from moe_pipeline.imaging.io.nrrd_segments import has_anatomical_space
from moe_pipeline.imaging.itk import ITK_READS, geometry_of, image_from_volume, sitk
from moe_pipeline.imaging.volume import Volume

WRITABLE_SUFFIXES = (".nii.gz", ".nii", ".nrrd", ".mha")


def read_native(path: Path) -> Volume:
    """One channel of a 3D image file, or a folder with one DICOM series, as stored.

    Raises:
        ImageError: if it is no single 3D channel; names the file, what was found and what to do.
        GeometryError: if its grid is sheared or has no positive spacing, or its header contradicts itself.
    """
    return single(read_channels(path), path)


def single(channels: list[Volume], path: Path) -> Volume:
    """The only one of the volumes of a file; raises as `read_native`."""
    if len(channels) != 1:
        sides = "x".join(map(str, (*channels[0].geometry.shape, len(channels))))
        raise ImageError(f"{path}: expected a 3D image, found 4D of size {sides}. {_SPLIT}", kind="dimensions")
    return channels[0]


def read_channels(path: Path) -> list[Volume]:
    """As `read_native`, but a 4D file gives its 3D volumes in order."""
    return read_with_notes(path)[0]


def read_with_notes(path: Path, fixes: Collection[str] = ()) -> tuple[list[Volume], tuple[str, ...]]:
    """As `read_channels`, with a choice of what to believe in a header that contradicts itself.

    Args:
        path: of the file or folder.
        fixes: values of --fix that choose: sform, qform, pixdim, mm; others mean nothing here.

    Returns:
        The volumes, and where other programs would place them otherwise by the same header.
    """
    if path.is_dir():
        return [dicom.read_series(path)], ()
    _check_is_read(path)
    if nifti.is_nifti(path):
        voxels, geometry, notes = nifti.read_image(path, fixes)
    else:
        voxels, geometry = _read_by_itk(path)
        notes = () if has_anatomical_space(path) else (f"{path.name}: {_NO_SPACE}",)
    stacked = voxels.reshape((*geometry.shape, -1), order="F")  # (x, y, z, t)
    return [Volume(stacked[..., index], geometry) for index in range(stacked.shape[3])], notes


def read_geometry(path: Path) -> Geometry:
    """Grid of a 3D image as stored, from its header alone.

    Raises:
        ImageError: if it is no 3D image.
        GeometryError: if its grid is sheared or has no positive spacing, or its header contradicts itself.
    """
    if path.is_dir():
        return dicom.read_series_geometry(path)
    _check_is_read(path)
    if nifti.is_nifti(path):
        header = nifti.read_header(path)
        geometry, sides = place(header, path)[0], header.shape
    else:
        reader = _read_header(path)
        geometry, sides = _geometry(path, reader), reader.GetSize()
    if int(np.prod(sides)) != int(np.prod(geometry.shape)):
        found = f"expected a 3D image, found {len(sides)}D of size {'x'.join(map(str, sides))}"
        raise ImageError(f"{path}: {found}. {_SPLIT}", kind="dimensions")
    return geometry


def check_is_there(path: Path) -> None:
    """Refuse what is neither file nor folder, before anything tries to open it.

    Raises:
        ImageError: says what it is, and what to do.
    """
    if path.is_symlink() and not path.exists():
        raise ImageError(
            f"{path}: no such file, but a link to {path.readlink()}, which is not there. Fetch the content, such as "
            "with datalad get or git annex get."
        )
    if not path.exists():
        raise ImageError(f"{path}: no such file.")
    if not os.access(path, os.R_OK):
        raise ImageError(f"{path}: cannot be opened (Permission denied). Make it readable, or copy it again.")


def _check_is_read(path: Path) -> None:
    check_is_there(path)
    if not has_image_suffix(path):
        why = fault_of_format(path) or f"no image file that is read; these are {', '.join(SUFFIXES)}"
        raise ImageError(f"{path}: {why}.")


def write_native(volume: Volume, path: Path) -> None:
    """Write a volume as it is; compressed unless the name ends in .nii.

    Raises:
        ImageError: if the suffix is none of ours.
        OSError: if not all of it can be written, as on a full disk.
    """
    if not path.name.lower().endswith(WRITABLE_SUFFIXES):
        raise ImageError(f"{path}: cannot be written; choose a name that ends in {', '.join(WRITABLE_SUFFIXES)}.")
    image = image_from_volume(volume)
    with atomic_path(path) as temporary:
        try:
            sitk.WriteImage(image, str(temporary), useCompression=not path.name.lower().endswith(".nii"))
        except RuntimeError as error:
            raise _not_whole(path) from error
        if nifti.is_nifti(path) and not nifti.is_whole(temporary, volume.array.nbytes):
            raise _not_whole(path)  # ITK does not tell


def _not_whole(path: Path) -> OSError:
    return OSError(errno.ENOSPC, "could not be written as a whole; is the disk full?", str(path))


def itk_reason(error: RuntimeError) -> str:
    """What ITK says went wrong, in one line and without the place in its source."""
    lines = [line.strip() for line in str(error).splitlines()]
    told = [re.sub(r"^(sitk::|itk::|ITK )ERROR: (\w+\(0x\w+\): )?", "", line) for line in lines[1:] if line]
    return " ".join(told).rstrip(".") or str(error)


_NO_SPACE = "names no anatomical space; its axes are taken to run to the left, to the back and up"
_SPLIT = "Split it into one file per channel or time point."


def _read_by_itk(path: Path) -> tuple[NDArray[Any], Geometry]:
    reader = _read_header(path)
    geometry = _geometry(path, reader)
    try:
        with ITK_READS:
            voxels = sitk.GetArrayFromImage(reader.Execute()).transpose()  # ([t, ]z, y, x) -> (x, y, z[, t])
    except RuntimeError as error:
        reason = f"its header is there, its voxels are not all: {itk_reason(error)}"
        raise ImageError(f"{path}: cannot be read: {reason}. Copy or export it again.", kind="truncated") from error
    return voxels, geometry


def _read_header(path: Path) -> Any:
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        with ITK_READS:
            reader.ReadImageInformation()
    except RuntimeError as error:
        if "orthonormal" in str(error):
            raise GeometryError(
                f"{path}: its index axes are not orthogonal (sheared grid). Resample it first.", kind="sheared"
            ) from error
        raise ImageError(f"{path}: not a readable image, or damaged: {itk_reason(error)}.") from error
    return reader


def _geometry(path: Path, reader: Any) -> Geometry:
    size = reader.GetSize()
    if len(size) not in (3, 4):
        sides = "x".join(map(str, size))
        found = f"expected a 3D image, found {len(size)}D of size {sides}"
        raise ImageError(f"{path}: {found}. Stack the slices first.", kind="dimensions")
    pixel = sitk.GetPixelIDValueAsString(reader.GetPixelIDValue())
    if reader.GetNumberOfComponents() != 1 or "complex" in pixel:
        raise ImageError(
            f"{path}: expected one number per voxel, found {reader.GetNumberOfComponents()} ({pixel}; colour?). "
            "Convert it to one channel.",
            kind="dimensions",
        )
    try:
        return geometry_of(reader)
    except GeometryError as error:
        raise GeometryError(f"{path}: {error}", kind=error.kind) from error
