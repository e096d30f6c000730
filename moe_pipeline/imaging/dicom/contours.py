"""RTSTRUCT: contours, matched to the slices of an image by where they lie.

References to slices are not used: they may name slices that were cropped, anonymised or left out since.
"""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moe_pipeline.errors import GeometryError, ImageError
from moe_pipeline.imaging.dicom.frame import RAS_FROM_LPS
from moe_pipeline.imaging.dicom.library import interpreting, read_dataset
from moe_pipeline.imaging.dicom.polygons import fill
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


@dataclass(frozen=True, slots=True, eq=False)
class _Placed:
    """Contours on the slices of a grid."""

    by_slice: dict[int, list[NDArray[np.float64]]]
    """Slice to corners (n, 2) in pixels."""
    n_above_or_below: int
    """Contours before the first or behind the last slice."""
    n_beside: int
    """Contours that reach over the sides of the image."""


def read_contours(path: Path) -> list[Contours]:
    """The regions of an RTSTRUCT file that have closed contours, in the file's order.

    Raises:
        ImageError: if it is no RTSTRUCT, damaged, or two regions have the same name.
    """
    return regions_of(read_dataset(path), path)


def regions_of(dataset: Any, path: Path) -> list[Contours]:
    """As `read_contours`, of a dataset that is read already."""
    if dataset.get("SOPClassUID") != RTSTRUCT:
        raise ImageError(f"{path}: expected an RTSTRUCT, found {dataset.get('Modality', 'no modality')}.")
    with interpreting(path):
        closed = _closed(dataset, path)
        return [Contours(name, tuple(_outline(contour, path) for contour in found)) for name, found in closed]


def names_of(dataset: Any, path: Path) -> list[str]:
    """Names of the regions that have closed contours; raises as `read_contours`, but looks at no coordinates."""
    with interpreting(path):
        return [name for name, _ in _closed(dataset, path)]


def fill_contours(contours: Contours, geometry: Geometry, path: Path) -> Structure:
    """Mask of a region: pixel centres inside an odd number of its contours (holes, keyholes), slice by slice.

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
    for number, outlines in placed.by_slice.items():
        part[:, :, number - z[0]] = fill([outline - first for outline in outlines], (n_x, n_y))
    x, y = ((int(start), int(start) + side) for start, side in zip(first, (n_x, n_y), strict=True))
    return Structure(contours.name, geometry, (x, y, z), part, _notes(placed, contours))


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


def _notes(placed: _Placed, contours: Contours) -> tuple[str, ...]:
    n, notes = len(contours.outlines), []
    if placed.n_above_or_below:
        notes.append(f"{contours.name}: {placed.n_above_or_below} of {n} contours lie beyond the first or last slice")
    if placed.n_beside:
        notes.append(f"{contours.name}: {placed.n_beside} of {n} contours reach beyond the sides of the image")
    return tuple(notes)


def _closed(dataset: Any, path: Path) -> list[tuple[str, list[Any]]]:
    """Name and closed contours, as pydicom has them, of each region that has any."""
    names = {int(item.ROINumber): str(item.get("ROIName") or "").strip() for item in dataset.StructureSetROISequence}
    found = []
    for item in dataset.get("ROIContourSequence") or []:
        number = int(item.ReferencedROINumber)
        closed = [contour for contour in item.get("ContourSequence") or [] if _is_closed(contour)]
        if closed:
            found.append((names.get(number) or f"ROI {number}", closed))
    counts = Counter(name for name, _ in found)
    doubled = sorted(name for name, n in counts.items() if n > 1)
    if doubled:
        raise ImageError(f"{path}: several regions are called {', '.join(doubled)}. Rename them in the RTSTRUCT.")
    return found


def _outline(contour: Any, path: Path) -> NDArray[np.float64]:
    stored = contour.get_item("ContourData").value
    if isinstance(stored, bytes):  # as in the file: a hundred times faster than number by number
        stored = [text for text in stored.decode("ascii", "replace").strip("\0 ").split("\\") if text]
    try:
        values = np.array(stored, dtype=np.float64)
    except ValueError as error:
        raise ImageError(f"{path}: a contour holds something else than numbers ({error}). Export it again.") from error
    if len(values) % 3 or len(values) < 3 * _MIN_CORNERS:
        raise ImageError(f"{path}: a closed contour has {len(values)} coordinates; needs three for each of 3 corners.")
    corners: NDArray[np.float64] = values.reshape(-1, 3) * RAS_FROM_LPS
    return corners


def _is_closed(contour: Any) -> bool:
    return contour.get("ContourGeometricType") in _CLOSED and "ContourData" in contour


def _range(geometry: Geometry) -> str:
    normal = geometry.matrix[:, 2]
    first = float(np.dot(geometry.origin_mm, normal))
    last = first + (geometry.shape[2] - 1) * geometry.spacing_mm[2]
    return f"{first:.6g} to {last:.6g} mm along their normal"
