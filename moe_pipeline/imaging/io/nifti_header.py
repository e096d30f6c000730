"""What headers of NIfTI files say, versions 1 and 2; what they mean by it is found by `nifti_place`."""

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moe_pipeline.errors import ImageError

HEADER_BYTES = {1: 348, 2: 540}
"""By version."""
_DTYPES = {2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4", 1024: "i8", 1280: "u8"}
_OTHER_TYPES = {
    1: "bits",
    32: "2 (complex)",
    128: "3 (RGB colour)",
    1536: "128 bit floats",
    1792: "2 (complex)",
    2304: "4 (RGBA colour)",
}
_MAGIC = {1: (344, b"n+1\0"), 2: (4, b"n+2\0\r\n\x1a\n")}
_UNITS = {1: ("metres", 1000.0), 2: ("millimetres", 1.0), 3: ("micrometres", 0.001)}
_UNIT_LENGTH = 1e-3  # of quaternions, which headers keep in single precision
_NO_IMAGE = {
    b"version https://git-lfs": "a Git LFS pointer, not the file itself; fetch it: git lfs pull",
    b"<": "a web page, not an image; download the file itself",
}


@dataclass(frozen=True, slots=True, eq=False)
class NiftiHeader:
    """What a header says, as it says it."""

    version: int
    shape: tuple[int, ...]
    """Sides along x, y, z and, where there are several volumes, t."""
    dtype: np.dtype[Any]
    first_byte: int
    """Of the voxels, in the file before compression."""
    slope: float
    """0 for voxels that are not scaled."""
    intercept: float
    pixdim: NDArray[np.float64]
    """(3,) spacing, in its unit."""
    sform: NDArray[np.float64] | None
    """(4, 4) from index to RAS, in its unit; None if there is none."""
    qform: NDArray[np.float64] | None
    """The same of the quaternion."""
    codes: tuple[int, int]
    """Of sform and qform."""
    unit: str
    """Of all lengths."""
    mm_per_unit: float


@np.errstate(all="ignore")
def parse(start: bytes, path: Path) -> NiftiHeader:
    """Header from the first bytes of a file, before compression.

    Raises:
        ImageError: if it is none, or what it says of its voxels is not possible; names what it says.
    """
    version, order = _version(start, path)
    at = _OFFSETS[version]

    def read(name: str, form: str) -> tuple[Any, ...]:
        return struct.unpack_from(order + form, start, at[name])

    integer, real = ("h", "f") if version == 1 else ("q", "d")
    (code,), (bits,) = read("datatype", "h"), read("bitpix", "h")
    sides = read("dim", f"8{integer}")
    (first_byte,) = read("vox_offset", "f" if version == 1 else "q")
    (slope,), (intercept,) = read("scl_slope", real), read("scl_inter", real)
    qfac, *pixdim = read("pixdim", f"4{real}")
    qform_code, sform_code = read("qform_code", "2h" if version == 1 else "2i")
    (units,) = read("xyzt_units", "B" if version == 1 else "i")
    unit, factor = _UNITS.get(units & 7, ("millimetres", 1.0))
    quaternion, rows = read("quatern_b", f"6{real}"), read("srow_x", f"12{real}")
    return NiftiHeader(
        version,
        _shape(sides, path),
        _dtype(code, bits, order, path),
        _first_byte(first_byte, HEADER_BYTES[version] + 4, path),
        *_scaling(slope, intercept, path),
        np.array(pixdim),
        np.vstack([np.reshape(rows, (3, 4)), (0, 0, 0, 1)]) if sform_code > 0 else None,
        _of_quaternion(np.array(quaternion), np.array(pixdim), qfac) if qform_code > 0 else None,
        (sform_code, qform_code),
        unit,
        factor,
    )


def _version(start: bytes, path: Path) -> tuple[int, str]:
    if not start:
        raise ImageError(f"{path}: not a readable image, or damaged: it is empty. Copy or export it again.")
    for version, length in HEADER_BYTES.items():
        for order in "<>":
            if len(start) >= 4 and struct.unpack_from(f"{order}i", start)[0] == length:
                break
        else:
            continue
        if len(start) < length:
            there = f"{len(start)} bytes, a NIfTI header alone has {length}"
            raise ImageError(f"{path}: truncated: {there}. Copy again.", kind="truncated")
        offset, magic = _MAGIC[version]
        found = start[offset : offset + len(magic)]
        if found in (b"ni1\0", b"ni2\0"):
            raise ImageError(
                f"{path}: a header whose voxels are in another file (.img), which is not read; convert both to .nii.gz."
            )
        if found != magic:
            raise ImageError(
                f"{path}: no NIfTI: its mark is {found!r}, expected {magic!r}; Analyze does not say which side is "
                "left. Convert it to NIfTI."
            )
        return version, order
    told = next((what for mark, what in _NO_IMAGE.items() if start.lstrip().startswith(mark)), "export it again")
    raise ImageError(f"{path}: not a readable image, or damaged: it does not begin like NIfTI: {told}.")


_OFFSETS = {
    1: {
        **{
            "datatype": 70,
            "bitpix": 72,
            "dim": 40,
            "vox_offset": 108,
            "scl_slope": 112,
            "scl_inter": 116,
            "pixdim": 76,
        },
        **{"qform_code": 252, "xyzt_units": 123, "quatern_b": 256, "srow_x": 280},
    },
    2: {
        **{
            "datatype": 12,
            "bitpix": 14,
            "dim": 16,
            "vox_offset": 168,
            "scl_slope": 176,
            "scl_inter": 184,
            "pixdim": 104,
        },
        **{"qform_code": 344, "xyzt_units": 500, "quatern_b": 352, "srow_x": 400},
    },
}


def _shape(dim: tuple[int, ...], path: Path) -> tuple[int, ...]:
    n_dimensions, *sides = dim
    named = sides[:n_dimensions] if 1 <= n_dimensions <= 7 else []
    if not named or min(named) < 1:
        raise ImageError(f"{path}: damaged header: {n_dimensions} dimensions of sides {', '.join(map(str, sides))}.")
    while len(named) > 3 and named[-1] == 1:
        named.pop()
    if len(named) > 4:
        sides_told = "x".join(map(str, named))
        raise ImageError(
            f"{path}: expected one number per voxel, found {int(np.prod(named[4:], dtype=object))} (size {sides_told}: "
            "vectors?). Convert it to one channel.",
            kind="dimensions",
        )
    return tuple(named)


def _dtype(code: int, bits: int, order: str, path: Path) -> np.dtype[Any]:
    if code in _OTHER_TYPES:
        raise ImageError(
            f"{path}: expected one number per voxel, found {_OTHER_TYPES[code]}. Convert it to one channel of plain "
            "numbers.",
            kind="dimensions",
        )
    if code not in _DTYPES:
        raise ImageError(f"{path}: damaged header: unknown data type {code}. Export it again.")
    dtype = np.dtype(order + _DTYPES[code])
    if bits not in (0, dtype.itemsize * 8):
        raise ImageError(
            f"{path}: damaged header: data type {code} has {dtype.itemsize * 8} bits, bitpix says {bits}. "
            "Export it again."
        )
    return dtype


def _first_byte(value: float, least: int, path: Path) -> int:
    if value == 0:
        return least
    if not np.isfinite(value) or value != int(value) or value < least:
        raise ImageError(
            f"{path}: damaged header: vox_offset, where the voxels begin, is {value}; expected whole "
            f"bytes from {least} on. Export it again."
        )
    return int(value)


def _scaling(slope: float, intercept: float, path: Path) -> tuple[float, float]:
    """Slope and intercept; a slope of 0, NaN or infinity means that voxels are not scaled."""
    if not np.isfinite(slope) or slope == 0:
        return 0.0, 0.0
    if not np.isfinite(intercept):
        raise ImageError(
            f"{path}: its header contradicts itself: scl_slope is {slope:g}, but scl_inter is {intercept}. Set "
            "scl_slope to 0 if the voxels are not scaled, or export it again.",
            kind="header",
        )
    return float(slope), float(intercept)


def _of_quaternion(parameters: NDArray[np.float64], pixdim: NDArray[np.float64], qfac: float) -> NDArray[np.float64]:
    """(4, 4) affine of the rotation b, c, d and the offsets of a header; not finite if they are not."""
    b, c, d = (float(value) for value in parameters[:3])
    squared = 1.0 - (b * b + c * c + d * d)
    if not squared > -_UNIT_LENGTH:
        return np.full((4, 4), np.nan)  # no rotation
    if squared < 1e-7:  # half a turn, but for rounding
        length = np.sqrt(b * b + c * c + d * d)
        a, b, c, d = 0.0, b / length, c / length, d / length
    else:
        a = float(np.sqrt(squared))
    rotation = np.array(
        [
            [a * a + b * b - c * c - d * d, 2 * b * c - 2 * a * d, 2 * b * d + 2 * a * c],
            [2 * b * c + 2 * a * d, a * a + c * c - b * b - d * d, 2 * c * d - 2 * a * b],
            [2 * b * d - 2 * a * c, 2 * c * d + 2 * a * b, a * a + d * d - c * c - b * b],
        ]
    )
    affine = np.eye(4)
    affine[:3, :3] = rotation * pixdim * (1, 1, -1 if qfac < 0 else 1)
    affine[:3, 3] = parameters[3:]
    return affine
