"""How much memory a case takes while it is read and looked at."""

from collections.abc import Sequence
from pathlib import Path

from moe_pipeline.errors import PipelineError
from moe_pipeline.imaging.io.files import has_image_suffix, read_geometry

_SMALL_BYTES = 4_000_000  # of a file; not worth opening it twice
_BYTES_PER_VOXEL = 12  # compressed and plain file, label, and what statistics copy
_BYTES_PER_STORED_BYTE = _BYTES_PER_VOXEL // 2  # DICOM mostly stores 16 bits


def case_bytes(images: Sequence[Path]) -> int:
    """Roughly what a case of these image files (one per channel), or DICOM slices, takes; 0 if it is small."""
    stored = sum(path.stat().st_size for path in images if path.is_file())
    if stored < _SMALL_BYTES:
        return 0
    if not has_image_suffix(images[0]):
        return stored * _BYTES_PER_STORED_BYTE
    try:
        x, y, z = read_geometry(images[0]).shape
    except PipelineError:
        return stored * _BYTES_PER_VOXEL  # 4D, or damaged, which is reported where it is read in full
    return x * y * z * _BYTES_PER_VOXEL
