"""Measures of one class on one grid, with their empty cases spelled out.

| class is in        | dice | iou | nsd | hd95_mm | volume_difference_ml |
|--------------------|------|-----|-----|---------|----------------------|
| both masks         | yes  | yes | yes | yes     | yes                  |
| one mask only      | 0    | 0   | 0   | inf     | yes                  |
| neither            | NaN  | NaN | NaN | NaN     | 0                    |

A surface is the set of voxels of a mask that have a face towards the outside; beyond the grid all is outside. Distances
run between voxel centres, in mm. Surface voxels count alike, whatever their area.
"""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from moe_pipeline.imaging.overlap import dice

BoolArray: TypeAlias = NDArray[np.bool_]
FloatArray: TypeAlias = NDArray[np.float64]
Spacing: TypeAlias = tuple[float, float, float]

NSD_TOLERANCE_MM = 1.0
"""Default tolerance of the normalised surface distance."""

_HD_PERCENTILE = 95.0
_ROUNDING_MM = 1e-6  # 7 * 0.7 - 6 * 0.7 is a little more than 0.7


@dataclass(frozen=True, slots=True)
class SurfaceDistances:
    """Distances in mm from each surface voxel of one mask to the nearest of the other; empty for an empty mask.

    With one empty mask, the distances of the other are infinite.
    """

    prediction_to_reference_mm: FloatArray
    reference_to_prediction_mm: FloatArray


@dataclass(frozen=True, slots=True)
class ClassMetrics:
    """All measures of one class; the table in the module's docstring gives the empty cases."""

    dice: float
    iou: float
    nsd: float
    hd95_mm: float
    volume_reference_ml: float
    volume_prediction_ml: float

    @property
    def volume_difference_ml(self) -> float:
        """Prediction minus reference; positive when too much was segmented."""
        return self.volume_prediction_ml - self.volume_reference_ml


def class_metrics(
    prediction: BoolArray, reference: BoolArray, spacing_mm: Spacing, tolerance_mm: float = NSD_TOLERANCE_MM
) -> ClassMetrics:
    """Measure one class.

    Args:
        prediction: mask, (X, Y, Z).
        reference: mask on the same grid, (X, Y, Z).
        spacing_mm: edges of a voxel along x, y, z.
        tolerance_mm: surfaces this close count as equal in the NSD.

    Raises:
        TypeError: if a mask is not boolean.
        ValueError: if the shapes differ.
    """
    overlap = dice(prediction, reference)
    distances = surface_distances(prediction, reference, spacing_mm)
    voxel_ml = float(np.prod(spacing_mm)) / 1000
    return ClassMetrics(
        dice=overlap,
        iou=iou_from_dice(overlap),
        nsd=normalised_surface_distance(distances, tolerance_mm),
        hd95_mm=hausdorff95_mm(distances),
        volume_reference_ml=int(np.count_nonzero(reference)) * voxel_ml,
        volume_prediction_ml=int(np.count_nonzero(prediction)) * voxel_ml,
    )


def iou_from_dice(value: float) -> float:
    """Intersection over union of the masks with this Dice; NaN stays NaN."""
    return value / (2 - value)


def surface_distances(prediction: BoolArray, reference: BoolArray, spacing_mm: Spacing) -> SurfaceDistances:
    """Distances between the surfaces of two masks (X, Y, Z) on one grid.

    Exact; searched in a tree of the surface voxels, which for organs is several times faster than a distance map of
    the box around both and does not suffer from a stray voxel far away.
    """
    of_prediction = _surface_points_mm(prediction, spacing_mm)  # (P, 3)
    of_reference = _surface_points_mm(reference, spacing_mm)  # (R, 3)
    return SurfaceDistances(
        prediction_to_reference_mm=_nearest_mm(of_prediction, of_reference),  # (P,)
        reference_to_prediction_mm=_nearest_mm(of_reference, of_prediction),  # (R,)
    )


def normalised_surface_distance(distances: SurfaceDistances, tolerance_mm: float) -> float:
    """Share of the voxels of both surfaces that lie within the tolerance of the other one.

    NaN if both masks are empty, 0 if one is.

    Raises:
        ValueError: if the tolerance is negative.
    """
    if not tolerance_mm >= 0:
        raise ValueError(f"tolerance_mm must be 0 or more, got {tolerance_mm}")
    both = np.concatenate([distances.prediction_to_reference_mm, distances.reference_to_prediction_mm])
    if both.size == 0:
        return float("nan")
    return float(np.count_nonzero(both <= tolerance_mm + _ROUNDING_MM) / both.size)


def hausdorff95_mm(distances: SurfaceDistances) -> float:
    """Larger one of the two directed 95th percentiles. NaN if both masks are empty, infinite if one is."""
    directed = (distances.prediction_to_reference_mm, distances.reference_to_prediction_mm)
    if any(values.size == 0 for values in directed):
        return float("nan") if all(values.size == 0 for values in directed) else float("inf")
    return max(float(np.percentile(values, _HD_PERCENTILE)) for values in directed)


def surface(mask: BoolArray) -> BoolArray:
    """Voxels of a mask (X, Y, Z) with one of their six faces towards the outside."""
    padded = np.pad(mask, 1)  # (X + 2, Y + 2, Z + 2)
    inner = mask.copy()
    for axis, n in enumerate(mask.shape):
        for start in (0, 2):
            window = [slice(1, -1)] * mask.ndim
            window[axis] = slice(start, start + n)
            inner &= padded[tuple(window)]  # (X, Y, Z)
    return mask & ~inner


def _surface_points_mm(mask: BoolArray, spacing_mm: Spacing) -> FloatArray:
    return np.asarray(np.argwhere(surface(mask)) * np.asarray(spacing_mm), dtype=np.float64)  # (N, 3)


def _nearest_mm(points: FloatArray, others: FloatArray) -> FloatArray:
    if len(points) == 0 or len(others) == 0:
        return np.full(len(points), np.inf)
    nearest, _ = cKDTree(others, balanced_tree=False, compact_nodes=False).query(points)
    return np.asarray(nearest, dtype=np.float64)
