"""RTSTRUCT: contours, matched to the slices of an image by where they lie.

References to slices are not used: they may name slices that were cropped, anonymised or left out since.
"""

from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moe_pipeline.errors import GeometryError, ImageError
from moe_pipeline.imaging.dicom.frame import RAS_FROM_LPS
from moe_pipeline.imaging.dicom.library import interpreting, read_dataset, text_of
from moe_pipeline.imaging.dicom.polygons import fill, fill_nested
from moe_pipeline.imaging.dicom.structure import Structure
from moe_pipeline.imaging.geometry import Geometry

RTSTRUCT = "1.2.840.10008.5.1.4.1.1.481.3"
_CLOSED = ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR")
_OFF_SLICE_TOLERANCE = 0.1  # of the slice spacing
_PIXEL_DECIMALS = 8  # lines through pixel centres, which some programs draw, must not depend on rounding
_MIN_CORNERS = 3


@dataclass(frozen=True, slots=True, eq=False)
class Contours:
    """Closed contours of one region of interest."""

    name: str
    outlines: tuple[NDArray[np.float64], ...]
    """Corners (n, 3) of each, world mm (RAS)."""
    is_xor: bool = False
    """Whether the file says that what lies in an even number of them is outside, even where they cross."""
    n_degenerate: int = 0
    """Contours of fewer than three corners, which enclose nothing and are left out."""


@dataclass(frozen=True, slots=True, eq=False)
class _Placed:
    """Contours on the slices of a grid."""

    by_slice: dict[int, list[NDArray[np.float64]]]
    """Slice to corners (n, 2) in pixels."""
    n_above_or_below: int
    """Contours before the first or behind the last slice."""
    n_beside: int
    """Contours that reach over the sides of the image."""


def read_contours(path: Path, *, names_may_repeat: bool = False) -> list[Contours]:
    """The regions of an RTSTRUCT file that have closed contours, in the file's order.

    Raises:
        ImageError: if it is no RTSTRUCT, damaged, or two regions have the same name and that is not asked for.
    """
    dataset = read_dataset(path)
    if dataset.get("SOPClassUID") != RTSTRUCT:
        raise ImageError(f"{path}: expected an RTSTRUCT, found {dataset.get('Modality', 'no modality')}.")
    with interpreting(path):
        closed = _closed(dataset)
        if not names_may_repeat:
            _check_names([name for name, _ in closed], path)
        return [_contours(name, found, path) for name, found in closed]


def names_of(dataset: Any, path: Path) -> list[str]:
    """Names of the regions that have closed contours; they may repeat. Looks at no coordinates."""
    with interpreting(path):
        return [name for name, _ in _closed(dataset)]


def _check_names(names: list[str], path: Path) -> None:
    doubled = sorted(name for name, n in Counter(names).items() if n > 1)
    if doubled:
        raise ImageError(f"{path}: several regions are called {', '.join(doubled)}. Rename them in the RTSTRUCT.")


def fill_contours(contours: Contours, geometry: Geometry, path: Path) -> Structure:
    """Mask of a region: pixel centres inside an odd number of its contours (holes, keyholes), slice by slice.

    Contours that cross each other are no holes: both count, unless the file says otherwise (CLOSEDPLANAR_XOR).

    Args:
        contours: of the region.
        geometry: of the image, as stored: slices along its third axis.
        path: of the RTSTRUCT, for messages.

    Raises:
        GeometryError: if a contour lies between slices or across them, or none lies on any: they belong elsewhere.
    """
    placed = _place(contours, geometry, path)
    corners = np.concatenate([outline for outlines in placed.by_slice.values() for outline in outlines])  # (n, 2)
    first = np.clip(np.ceil(corners.min(axis=0)), 0, geometry.shape[:2]).astype(int)
    stop = np.clip(np.floor(corners.max(axis=0)) + 1, first, geometry.shape[:2]).astype(int)
    z = (min(placed.by_slice), max(placed.by_slice) + 1)
    n_x, n_y = (int(side) for side in stop - first)
    part = np.zeros((n_x, n_y, z[1] - z[0]), bool, order="F")  # slice after slice, as it is used
    n_crossing = 0
    for number, outlines in placed.by_slice.items():
        shifted = [outline - first for outline in outlines]
        if contours.is_xor:
            part[:, :, number - z[0]] = fill(shifted, (n_x, n_y))
        else:
            part[:, :, number - z[0]], crosses = fill_nested(shifted, (n_x, n_y))
            n_crossing += crosses
    x, y = ((int(start), int(start) + side) for start, side in zip(first, (n_x, n_y), strict=True))
    return Structure(contours.name, geometry, (x, y, z), part, _notes(placed, contours, n_crossing))


def fit(regions: list[Contours], geometry: Geometry) -> float:
    """Share of contours that lie on slices of a grid, inside its sides; 1 if they may have been drawn on that image."""
    outlines = [outline for contours in regions for outline in contours.outlines]
    n_on_slice = 0
    for outline in outlines:
        index = geometry.world_to_voxel(outline)  # (n, 3)
        z = np.rint(index[:, 2].mean())
        inside = (index[:, :2] > -1).all() and (index[:, :2] < geometry.shape[:2]).all() and 0 <= z < geometry.shape[2]
        n_on_slice += bool(inside and np.abs(index[:, 2] - z).max() <= _OFF_SLICE_TOLERANCE)
    return n_on_slice / len(outlines) if outlines else 0.0


def _place(contours: Contours, geometry: Geometry, path: Path) -> _Placed:
    by_slice: dict[int, list[NDArray[np.float64]]] = {}
    seen: set[bytes] = set()
    n_above_or_below = n_beside = 0
    sides = np.asarray(geometry.shape[:2])
    for outline in contours.outlines:
        index = geometry.world_to_voxel(outline).round(_PIXEL_DECIMALS)  # (n, 3)
        number = _slice_of(index[:, 2], contours, geometry, path)
        if number is None:
            n_above_or_below += 1
            continue
        n_beside += bool((index[:, :2] < -1).any() or (index[:, :2] > sides).any())
        key = number.to_bytes(4, "big") + index[:, :2].tobytes()
        if key not in seen:  # a contour that is there twice would cancel itself
            seen.add(key)
            by_slice.setdefault(number, []).append(index[:, :2])
    if not by_slice:
        raise GeometryError(
            f"{path.name}: {contours.name}: none of its {len(contours.outlines)} contours lies within the image, whose "
            f"slices are at {_range(geometry)}; it belongs to another image."
        )
    return _Placed(by_slice, n_above_or_below, n_beside)


def _slice_of(z: NDArray[np.float64], contours: Contours, geometry: Geometry, path: Path) -> int | None:
    """Slice of a contour whose corners lie at `z`, (n,) in slices; None if it lies outside of the stack."""
    middle = float((z.min() + z.max()) / 2)
    if np.ptp(z) > 2 * _OFF_SLICE_TOLERANCE:
        raise GeometryError(
            f"{path.name}: {contours.name}: a contour runs across {np.ptp(z):.3g} slices; contours must lie in the "
            "plane of the image's slices. It was drawn on another image."
        )
    if middle < -0.5 or middle > geometry.shape[2] - 0.5:
        return None
    number = round(middle)
    if abs(middle - number) > _OFF_SLICE_TOLERANCE:
        off_mm = abs(middle - number) * geometry.spacing_mm[2]
        raise GeometryError(
            f"{path.name}: {contours.name}: a contour lies {off_mm:.3g} mm off the nearest slice (slices are "
            f"{geometry.spacing_mm[2]:.3g} mm apart). It was drawn on another image, or slices are missing."
        )
    return number


def _steps(placed: _Placed) -> list[int]:
    """Slices from each one with contours to the next, where their contours lie above each other."""
    slices = placed.by_slice
    return [above - below for below, above in pairwise(sorted(slices)) if _overlap(slices[below], slices[above])]


def _overlap(ones: list[NDArray[np.float64]], others: list[NDArray[np.float64]]) -> bool:
    """Whether the boxes around two slices' outlines have anything in common."""
    one, other = np.concatenate(ones), np.concatenate(others)
    return bool((one.min(axis=0) < other.max(axis=0)).all() and (other.min(axis=0) < one.max(axis=0)).all())


def _notes(placed: _Placed, contours: Contours, n_crossing: int) -> tuple[str, ...]:
    n, notes = len(contours.outlines), []
    if contours.n_degenerate:
        notes.append(f"{contours.name}: {contours.n_degenerate} contours of one or two points enclose nothing")
    if n_crossing:
        notes.append(f"{contours.name}: contours cross each other on {n_crossing} slices, what either encloses counts")
    steps = _steps(placed)
    if missing := sum(step - 1 for step in steps):
        usual = sorted(steps)[len(steps) // 2]
        every = f"contours lie on every {usual}. slice only: " if usual > 1 and len(steps) > 1 else ""
        notes.append(f"{contours.name}: {every}{missing} slices between others of it have no contour, and stay empty")
    if placed.n_above_or_below:
        notes.append(f"{contours.name}: {placed.n_above_or_below} of {n} contours lie beyond the first or last slice")
    if placed.n_beside:
        notes.append(f"{contours.name}: {placed.n_beside} of {n} contours reach beyond the sides of the image")
    return tuple(notes)


def _closed(dataset: Any) -> list[tuple[str, list[Any]]]:
    """Name and closed contours, as pydicom has them, of each region that has any."""
    names = {int(item.ROINumber): text_of(dataset, item.get("ROIName")) for item in dataset.StructureSetROISequence}
    found = []
    for item in dataset.get("ROIContourSequence") or []:
        number = int(item.ReferencedROINumber)
        closed = [contour for contour in item.get("ContourSequence") or [] if _is_closed(contour)]
        if any(_n_corners(contour) >= _MIN_CORNERS for contour in closed):
            found.append((names.get(number) or f"ROI {number}", closed))
    return found


def _contours(name: str, found: list[Any], path: Path) -> Contours:
    outlines = [_outline(contour, path) for contour in found]
    closed = tuple(outline for outline in outlines if len(outline) >= _MIN_CORNERS)
    is_xor = any(contour.ContourGeometricType == _CLOSED[1] for contour in found)
    return Contours(name, closed, is_xor, len(outlines) - len(closed))


def _outline(contour: Any, path: Path) -> NDArray[np.float64]:
    stored = contour.get_item("ContourData").value
    if isinstance(stored, bytes):  # as in the file: a hundred times faster than number by number
        stored = [text for text in stored.decode("ascii", "replace").strip("\0 ").split("\\") if text]
    try:
        values = np.array(stored, dtype=np.float64)
    except ValueError as error:
        raise ImageError(f"{path}: a contour holds something else than numbers ({error}). Export it again.") from error
    if len(values) % 3:
        raise ImageError(f"{path}: a closed contour has {len(values)} coordinates; needs three for each corner.")
    if not np.isfinite(values).all():
        raise ImageError(f"{path}: a contour has coordinates that are NaN or infinite. Export it again.")
    corners: NDArray[np.float64] = values.reshape(-1, 3) * RAS_FROM_LPS
    return corners


def _n_corners(contour: Any) -> int:
    stored = contour.get_item("ContourData").value
    n_numbers = stored.count(b"\\") + 1 if isinstance(stored, bytes) else len(stored or ())
    return n_numbers // 3


def _is_closed(contour: Any) -> bool:
    return contour.get("ContourGeometricType") in _CLOSED and "ContourData" in contour


def _range(geometry: Geometry) -> str:
    normal = geometry.matrix[:, 2]
    first = float(np.dot(geometry.origin_mm, normal))
    last = first + (geometry.shape[2] - 1) * geometry.spacing_mm[2]
    return f"{first:.6g} to {last:.6g} mm along their normal"
