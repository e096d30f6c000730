"""Image formats by their names: those that are read, and what to do with those that are not."""

from pathlib import Path

SUFFIXES = (".nii.gz", ".nii", ".nrrd", ".mha", ".mhd")
"""Image files that are read."""
_TO_NIFTI = "convert it to NIfTI (.nii.gz)"
_UNREAD: dict[tuple[str, ...], str] = {
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
