"""Where the voxels of NIfTI files lie: headers are taken at their word only where they do not contradict themselves.

A header says up to three times where voxels lie: by the sform, by the qform, and by the spacing in `pixdim`. Programs
differ in which one they believe, so where these differ nobody can tell what left and right are, and it is refused.
"""

from collections.abc import Collection
from itertools import product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from moe_pipeline.errors import GeometryError, ImageError
from moe_pipeline.imaging.geometry import Geometry
from moe_pipeline.imaging.io.nifti_header import NiftiHeader

_TOLERANCE = 0.1  # voxels, at the farthest corner; headers keep single precision
_SAME_SPACING = 1e-4  # relative; pixdim has the shorter numbers
_ORTHONORMAL = 1e-3
_LONGEST_MM = (1.0, 3_000.0)


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
