"""Image formats by their names: those that are read, from which files, and what to do with those that are not."""

import re
from collections.abc import Iterator
from pathlib import Path

SUFFIXES = (".nii.gz", ".nii", ".nrrd", ".mha", ".mhd")
"""Image files that are read."""
_LONGEST_HEADER = 1 << 16
_DATA_FILE = re.compile(r"(?:ElementDataFile\s*=|data ?file:)\s*(?P<name>\S.*)", re.IGNORECASE)
_TO_NIFTI = "convert it to NIfTI (.nii.gz)"
_UNREAD: dict[tuple[str, ...], str] = {
    (".zip", ".tar", ".tar.gz", ".tgz", ".7z", ".rar"): "an archive is not looked into; unpack it first",
    (".mgz", ".mgh"): f"FreeSurfer's format is not read; {_TO_NIFTI}, such as with mri_convert",
    (
        ".hdr",
        ".img",
    ): "an image in two files (Analyze, or NIfTI as .hdr and .img) is not read, since Analyze does not say "
    f"which side is left; {_TO_NIFTI}",
    (".tif", ".tiff"): f"TIFF does not say how large a voxel is; {_TO_NIFTI} with its spacing in mm",
    (".png", ".jpg", ".jpeg", ".bmp"): "a picture without spacing is not read; stack the slices, then " + _TO_NIFTI,
    (
        ".nhdr",
    ): f"an NRRD header with its voxels in another file is not read; save it as one .nrrd file, or {_TO_NIFTI}",
    (".nii.bz2", ".nii.xz", ".nii.zst", ".nii.zip", ".nia"): "this compression is not read; compress it as .nii.gz",
    (
        ".gipl",
        ".gipl.gz",
        ".mnc",
        ".vtk",
        ".vtp",
        ".stl",
        ".h5",
        ".hdf5",
        ".npy",
    ): f"this format is not read; {_TO_NIFTI}",
}


def has_image_suffix(path: Path) -> bool:
    """Whether the name ends like an image file that we read."""
    return path.name.lower().endswith(SUFFIXES)


def fault_of_format(path: Path) -> str:
    """What to do about a file whose name says that it is an image that we do not read; empty for other files."""
    name = path.name.lower()
    told = next(
        ((suffix, why) for suffixes, why in _UNREAD.items() for suffix in suffixes if name.endswith(suffix)), None
    )
    return "" if told is None or has_image_suffix(path) else f"{told[0]}: {told[1]}"


def files_read(path: Path) -> tuple[Path, ...]:
    """Every file that is read for an image: itself, and those in which a MetaImage or NRRD header keeps the voxels."""
    if not path.name.lower().endswith((".mhd", ".nrrd")):
        return (path,)
    try:
        with path.open("rb") as stream:
            lines = stream.read(_LONGEST_HEADER).decode("latin-1").splitlines()
    except OSError:
        return (path,)  # who reads it says so
    return (path, *(path.parent / name for name in _data_files(lines)))


def _data_files(lines: list[str]) -> Iterator[str]:
    for number, line in enumerate(lines):
        if not line.strip():
            return  # the voxels of an NRRD file begin
        match = _DATA_FILE.fullmatch(line.strip())
        if match is None or match["name"].upper() == "LOCAL":
            continue
        words = match["name"].split()
        if words[0].upper() == "LIST":
            yield from (name.strip() for name in lines[number + 1 :] if name.strip())
        elif "%" in words[0] and len(words) >= 3:
            first, last, step = (*map(int, words[1:3]), int(words[3]) if len(words) > 3 else 1)
            yield from (words[0] % index for index in range(first, last + 1, max(step, 1)))
        else:
            yield match["name"]
        return
