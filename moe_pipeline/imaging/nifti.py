"""Voxels of NIfTI-1 files, checked for being all there.

ITK fills what is missing from a truncated file with zeros and says nothing. Here every byte is accounted for, and a
compressed file must end with its own checksum. Geometry still comes from ITK, so that every format agrees on it.
"""

import gzip
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moe_pipeline.errors import ImageError

_HEADER_BYTES = 348
_DTYPES = {2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4", 1024: "i8", 1280: "u8"}


def is_nifti(path: Path) -> bool:
    """Whether the name says NIfTI in a single file."""
    return path.name.lower().endswith((".nii", ".nii.gz"))


def read_voxels(path: Path) -> NDArray[Any] | None:
    """Voxels (x, y, z) or (x, y, z, t) as stored or, where the header scales them, as float64.

    Returns:
        None for a file that is not NIfTI-1 (NIfTI-2, Analyze) or stores no plain numbers; ITK knows what to do.

    Raises:
        ImageError: if the file is truncated or damaged.
    """
    content = _decompressed(path)
    if len(content) < _HEADER_BYTES:
        raise ImageError(
            f"{path}: truncated: {len(content)} bytes, a NIfTI header alone has {_HEADER_BYTES}. Copy again.",
            kind="truncated",
        )
    order = next((order for order in "<>" if struct.unpack_from(order + "i", content)[0] == _HEADER_BYTES), None)
    code = struct.unpack_from(f"{order}h", content, 70)[0] if order else None
    if order is None or content[344:348] != b"n+1\0" or code not in _DTYPES:
        return None
    n_dimensions, *sides = struct.unpack_from(order + "8h", content, 40)
    shape = tuple(max(side, 1) for side in sides[:n_dimensions])
    first_byte, slope, intercept = struct.unpack_from(order + "3f", content, 108)
    dtype = np.dtype(order + _DTYPES[code])
    expected = int(first_byte) + int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    if len(content) < expected:
        there = f"{len(content)} of {expected} bytes are there"
        raise ImageError(f"{path}: truncated: {there}. Copy or export it again.", kind="truncated")
    count = int(np.prod(shape, dtype=np.int64))
    voxels = np.frombuffer(content, dtype, count, int(first_byte)).reshape(shape, order="F")
    if slope not in (0, 1) or (slope == 1 and intercept != 0):
        return voxels * float(slope) + float(intercept)
    return voxels


def _decompressed(path: Path) -> bytes:
    content = path.read_bytes()
    if not content.startswith(b"\x1f\x8b"):
        return content
    try:
        return gzip.decompress(content)  # also files of several members, as bgzip writes them
    except (OSError, EOFError, zlib.error) as error:
        reason = f"damaged or truncated gzip ({error})"
        raise ImageError(f"{path}: {reason}. Copy or export it again.", kind="truncated") from error
