"""Headers of NIfTI files, versions 1 and 2, taken at their word only where they do not contradict themselves.

A header says up to three times where voxels lie: by the sform, by the qform, and by the spacing in `pixdim`. Programs
differ in which one they believe, so where these differ nobody can tell what left and right are, and it is refused.
"""

import struct
from collections.abc import Collection
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moe_pipeline.errors import GeometryError, ImageError
from moe_pipeline.imaging.geometry import Geometry

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
_TOLERANCE = 0.1  # voxels, at the farthest corner; headers keep single precision
_SAME_SPACING = 1e-4  # relative; pixdim has the shorter numbers
_ORTHONORMAL = 1e-3
_LONGEST_MM = (1.0, 3_000.0)
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


@np.errstate(all="ignore")
def place(header: NiftiHeader, path: Path, fixes: Collection[str] = ()) -> tuple[Geometry, tuple[str, ...]]:
    """The grid that a header means.

    Args:
        header: as parsed.
        path: of the file, for messages.
        fixes: which side to believe where it contradicts itself: sform, qform or pixdim; mm for a wrong unit.

    Returns:
        The grid, and a note for whatever readers that take the header at its word would do otherwise.

    Raises:
        GeometryError: if it contradicts itself and no fix says what to believe, is sheared, or places nothing.
        ImageError: if it is not three-dimensional.
    """
    if len(header.shape) not in (3, 4):
        sides = "x".join(map(str, header.shape))
        found = f"expected a 3D image, found {len(header.shape)}D of size {sides}"
        raise ImageError(f"{path}: {found}. Stack the slices first.", kind="dimensions")
    affine, notes = _believed(header, path, fixes)
    factor = header.mm_per_unit
    if factor != 1:
        longest = np.linalg.norm(affine[:3, :3], axis=0) * header.shape[:3]
        if "mm" in fixes:
            factor, notes = 1.0, (*notes, f"{path.name}: lengths are read as mm, though it says {header.unit}")
        elif not _LONGEST_MM[0] <= longest.max() * factor <= _LONGEST_MM[1]:
            raise GeometryError(
                f"{path}: its header says that lengths are in {header.unit}, so that the image would be "
                f"{longest.max() * factor:.3g} mm long, in millimetres it would be {longest.max():.3g} mm. If these "
                "are millimetres: moe convert --fix mm; else correct the header.",
                kind="header",
            )
        else:
            notes = (*notes, f"{path.name}: lengths in {header.unit} became mm")
    return _grid(affine, header, factor, path), notes


def is_orthogonal(affine: NDArray[np.float64]) -> bool:
    """Whether the index axes of a (4, 4) affine are at right angles and none of them vanishes."""
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    if not (np.isfinite(affine).all() and lengths.all()):
        return False
    axes = affine[:3, :3] / lengths
    return bool(np.abs(axes.T @ axes - np.eye(3)).max() <= _ORTHONORMAL)


def _believed(header: NiftiHeader, path: Path, fixes: Collection[str]) -> tuple[NDArray[np.float64], tuple[str, ...]]:
    """The one affine, in the header's unit."""
    sform, qform, shape = header.sform, header.qform, header.shape[:3]
    if sform is not None and qform is not None:
        if _apart(sform, qform, shape, header.pixdim) > _TOLERANCE:
            both = {
                f"sform (code {header.codes[0]})": ("sform", sform),
                f"qform (code {header.codes[1]})": ("qform", qform),
            }
            return _chosen(both, header, path, fixes)
        return (sform if is_orthogonal(sform) else qform), ()
    by_pixdim = np.diag([*header.pixdim, 1.0])
    if sform is not None:
        if np.isfinite(sform).all() and np.linalg.norm(sform[:3, :3], axis=0).all() and not is_orthogonal(sform):
            return sform, ()  # sheared, whatever its spacing
        lengths = np.linalg.norm(sform[:3, :3], axis=0)
        by_pixdim = np.vstack([np.c_[sform[:3, :3] / lengths * header.pixdim, sform[:3, 3]], (0, 0, 0, 1)])
        if not _apart(sform, by_pixdim, shape, header.pixdim) <= _TOLERANCE:
            both = {f"sform (code {header.codes[0]})": ("sform", sform), "pixdim": ("pixdim", by_pixdim)}
            return _chosen(both, header, path, fixes)
        return sform, ()
    if qform is not None:
        return qform, ()
    if "pixdim" in fixes:
        return by_pixdim, (
            f"{path.name}: axes taken as right, anterior, superior, as no sform or qform says otherwise",
        )
    raise GeometryError(
        f"{path}: its header has neither sform nor qform (both codes are 0), only a spacing of "
        f"{_by(header.pixdim)} {header.unit}: it does not say which side is left. If the axes run to the right, to the "
        "front and up: moe convert --fix pixdim; else export it with its orientation.",
        kind="header",
    )


def _chosen(
    both: dict[str, tuple[str, NDArray[np.float64]]], header: NiftiHeader, path: Path, fixes: Collection[str]
) -> tuple[NDArray[np.float64], tuple[str, ...]]:
    """The side that a fix believes."""
    for title, (fix, affine) in both.items():
        if fix in fixes:
            others = "; ".join(f"{other} says {_told(one)}" for other, (_, one) in both.items() if other != title)
            return affine, (f"{path.name}: placed by its {title}, {_told(affine)}, while {others}",)
    (one, (_, first)), (other, (_, second)) = both.items()
    apart = _apart(first, second, header.shape[:3], header.pixdim)
    far = f"up to {apart:.3g} voxels apart" if np.isfinite(apart) else "with numbers that are none"
    choice = " or ".join(f"--fix {fix}" for fix, _ in both.values())
    raise GeometryError(
        f"{path}: its header contradicts itself: {one} says {_told(first)}; {other} says {_told(second)}, {far}. "
        f"Programs differ in which one they believe. Choose when converting: {choice}; or correct the header.",
        kind="header",
    )


def _apart(
    one: NDArray[np.float64], other: NDArray[np.float64], shape: tuple[int, ...], pixdim: NDArray[np.float64]
) -> float:
    """How far apart a corner voxel is by two affines, in voxels of the smaller side; infinite if one is not finite."""
    corners = np.array([(*corner, 1) for corner in product(*((0, side - 1) for side in shape))])  # (8, 4)
    lengths = np.concatenate([np.linalg.norm(affine[:3, :3], axis=0) for affine in (one, other)] + [np.abs(pixdim)])
    smallest = min((length for length in lengths.tolist() if length > 0), default=1.0)
    distance = np.linalg.norm(corners @ (one - other).T, axis=1).max() / smallest
    return float(distance) if np.isfinite(distance) else float("inf")


def _grid(affine: NDArray[np.float64], header: NiftiHeader, factor: float, path: Path) -> Geometry:
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    if not is_orthogonal(affine) and np.isfinite(affine).all() and lengths.all():
        raise GeometryError(
            f"{path}: its index axes are not orthogonal (sheared grid). Resample it first.", kind="sheared"
        )
    close = np.abs(header.pixdim - lengths) <= _SAME_SPACING * lengths
    spacing = np.where(close, header.pixdim, lengths) * factor
    axes = affine[:3, :3] / lengths
    try:
        x, y, z = header.shape[:3]
        return Geometry((x, y, z), _triple(spacing), _triple(affine[:3, 3] * factor), tuple(axes.ravel().tolist()))
    except GeometryError as error:
        raise GeometryError(f"{path}: {error}", kind=error.kind) from error


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
    if not squared > -_ORTHONORMAL:
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


def _told(affine: NDArray[np.float64]) -> str:
    """Spacing, axes and place of the first voxel."""
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    if not (np.isfinite(affine).all() and lengths.all()):
        return f"spacing {_by(lengths)}, which places nothing"
    axes = affine[:3, :3] / lengths
    rows = np.abs(axes).argmax(axis=0)  # (3,) the world axis that each index axis runs along
    letters = "".join(("RL", "AP", "SI")[row][int(axes[row, column] < 0)] for column, row in enumerate(rows))
    cosines = " ".join(f"({_by(axis, ', ')})" for axis in axes.T.round(4) + 0.0)
    return f"spacing {_by(lengths)}, axes {letters} {cosines}, first voxel at ({_by(affine[:3, 3], ', ')})"


def _triple(values: NDArray[np.float64]) -> tuple[float, float, float]:
    return float(values[0]), float(values[1]), float(values[2])


def _by(values: NDArray[np.float64], separator: str = "x") -> str:
    return separator.join(f"{value:.6g}" for value in values)
