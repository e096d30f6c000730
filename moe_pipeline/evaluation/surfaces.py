"""Surfaces of masks, as pieces with an area, and how far they are from each other.

A mask's surface runs between the voxels in it and those that are not; beyond the grid all is outside. It is cut into
the pieces that marching cubes puts into each cube of eight neighbouring voxels. A piece lies at its cube's middle and
counts with its area in mm². So do DeepMind's surface-distance and what is published with it, and the results agree.
"""

from dataclasses import dataclass
from functools import cache
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

BoolArray: TypeAlias = NDArray[np.bool_]
FloatArray: TypeAlias = NDArray[np.float64]
Spacing: TypeAlias = tuple[float, float, float]

_CORNERS = tuple((i, j, k) for i in (0, 1) for j in (0, 1) for k in (0, 1))
"""Of a cube of eight voxels; corner n is bit n of the cube's code."""
_ALL = 255
_ROUNDING_MM = 1e-6  # 7 * 0.7 - 6 * 0.7 is a little more than 0.7


@dataclass(frozen=True, slots=True)
class Directed:
    """The surface of one mask, seen from which the other one is so far away.

    Attributes:
        distances_mm: from each piece to the nearest of the other mask, ascending; infinite if that mask is empty.
        areas_mm2: of each piece.
    """

    distances_mm: FloatArray
    areas_mm2: FloatArray

    def area_within_mm2(self, tolerance_mm: float) -> float:
        """Area no farther than this."""
        return float(self.areas_mm2[self.distances_mm <= tolerance_mm + _ROUNDING_MM].sum())

    def percentile_mm(self, percent: float) -> float:
        """The distance that this share of the area does not exceed; the surface must not be empty."""
        share = np.cumsum(self.areas_mm2) / self.areas_mm2.sum()
        place = int(np.searchsorted(share, percent / 100))
        return float(self.distances_mm[min(place, len(share) - 1)])


@dataclass(frozen=True, slots=True)
class SurfaceDistances:
    """Both directions; empty for an empty mask."""

    of_prediction: Directed
    of_reference: Directed


def surface_distances(prediction: BoolArray, reference: BoolArray, spacing_mm: Spacing) -> SurfaceDistances:
    """Distances between the surfaces of two masks (X, Y, Z) on one grid.

    Exact; searched in a tree of the pieces, which for organs is several times faster than a distance map of the box
    around both and does not suffer from a stray voxel far away.
    """
    pieces = [_pieces(mask, spacing_mm) for mask in (prediction, reference)]
    return SurfaceDistances(_directed(*pieces), _directed(*reversed(pieces)))


def normalised_surface_distance(distances: SurfaceDistances, tolerance_mm: float) -> float:
    """Share of both surfaces' area that lies within the tolerance of the other one.

    NaN if both masks are empty, 0 if one is.

    Raises:
        ValueError: if the tolerance is negative.
    """
    if not tolerance_mm >= 0:
        raise ValueError(f"tolerance_mm must be 0 or more, got {tolerance_mm}")
    sides = (distances.of_prediction, distances.of_reference)
    total = sum(float(side.areas_mm2.sum()) for side in sides)
    if total == 0:
        return float("nan")
    return sum(side.area_within_mm2(tolerance_mm) for side in sides) / total


def hausdorff_mm(distances: SurfaceDistances, percent: float) -> float:
    """Larger one of the two directed percentiles. NaN if both masks are empty, infinite if one is."""
    sides = (distances.of_prediction, distances.of_reference)
    empty = [side.distances_mm.size == 0 for side in sides]
    if any(empty):
        return float("nan") if all(empty) else float("inf")
    return max(side.percentile_mm(percent) for side in sides)


def piece_areas_mm2(spacing_mm: Spacing) -> FloatArray:
    """Area of the surface in a cube of eight voxels, by the cube's code, (256,)."""
    x, y, z = spacing_mm
    scaled = _unit_triangles() * np.array([y * z, x * z, x * y])  # (256, T, 3)
    return np.asarray(np.sqrt((scaled**2).sum(axis=2)).sum(axis=1), dtype=np.float64)


def nearest_mm(places: FloatArray, targets: FloatArray) -> FloatArray:
    """Distance of each place, (N, 3), to the nearest target, (M, 3); both in mm, neither empty."""
    nearest, _ = cKDTree(targets, balanced_tree=False, compact_nodes=False).query(places)
    return np.asarray(nearest, dtype=np.float64)


def _pieces(mask: BoolArray, spacing_mm: Spacing) -> tuple[FloatArray, FloatArray]:
    """Places in mm, (N, 3), and areas, (N,), of the pieces of a mask's surface."""
    padded = np.pad(mask, 1).astype(np.uint8)  # (X + 2, Y + 2, Z + 2)
    codes = np.zeros([n - 1 for n in padded.shape], np.uint8)
    for bit, corner in enumerate(_CORNERS):
        window = tuple(slice(start, start + n) for start, n in zip(corner, codes.shape, strict=True))
        codes |= padded[window] << np.uint8(bit)
    places = np.argwhere((codes != 0) & (codes != _ALL))  # (N, 3)
    areas: FloatArray = piece_areas_mm2(spacing_mm)[codes[tuple(places.T)]]
    return places * np.asarray(spacing_mm), areas


def _directed(own: tuple[FloatArray, FloatArray], other: tuple[FloatArray, FloatArray]) -> Directed:
    (places, areas), (targets, _) = own, other
    if len(places) == 0 or len(targets) == 0:
        return Directed(np.full(len(places), np.inf), areas)
    distances = nearest_mm(places, targets)
    order = np.lexsort((areas, distances))
    return Directed(distances[order], areas[order])


@cache
def _unit_triangles() -> FloatArray:
    """Area vectors of the triangles in each cube at unit spacing, (256, T, 3); zeros where it has fewer.

    Marching cubes treats a cube and its complement differently where the surface could run in two ways; here both have
    the triangles of the one with fewer voxels inside.
    """
    from skimage.measure import marching_cubes

    vectors: list[FloatArray] = []
    for code in range(_ALL + 1):
        inside = code if code.bit_count() <= len(_CORNERS) // 2 else _ALL - code
        if inside == 0:
            vectors.append(np.zeros((0, 3)))
            continue
        cube = np.zeros((2, 2, 2))
        for bit, corner in enumerate(_CORNERS):
            cube[corner] = inside >> bit & 1
        points, faces, _, _ = marching_cubes(cube, 0.5, method="lorensen")  # type: ignore[no-untyped-call]
        first, second, third = (points[faces[:, n]].astype(np.float64) for n in range(3))  # (t, 3) each
        vectors.append(np.cross(second - first, third - first) / 2)
    table = np.zeros((_ALL + 1, max(map(len, vectors)), 3))
    for code, own in enumerate(vectors):
        table[code, : len(own)] = own
    return table
