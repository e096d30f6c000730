"""Measures of one class on one grid, with their empty cases spelled out.

| class is in        | dice | iou | nsd | hd95_mm | volumes  |
|--------------------|------|-----|-----|---------|----------|
| both masks         | yes  | yes | yes | yes     | yes      |
| one mask only      | 0    | 0   | 0   | inf     | one is 0 |
| neither            | NaN  | NaN | NaN | NaN     | 0        |

`evaluation.surfaces` says what a surface is; the definitions are those of DeepMind's surface-distance.
"""

from dataclasses import dataclass

import numpy as np

from moe_pipeline.evaluation.surfaces import (
    BoolArray,
    Spacing,
    hausdorff_mm,
    normalised_surface_distance,
    surface_distances,
)
from moe_pipeline.imaging.overlap import dice

NSD_TOLERANCE_MM = 1.0
"""Default tolerance of the normalised surface distance."""

_HD_PERCENT = 95.0


@dataclass(frozen=True, slots=True)
class ClassMetrics:
    """All measures of one class; the table in the module's docstring gives the empty cases."""

    dice: float
    iou: float
    nsd: float
    hd95_mm: float
    volume_reference_ml: float
    volume_prediction_ml: float


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
        hd95_mm=hausdorff_mm(distances, _HD_PERCENT),
        volume_reference_ml=int(np.count_nonzero(reference)) * voxel_ml,
        volume_prediction_ml=int(np.count_nonzero(prediction)) * voxel_ml,
    )


def iou_from_dice(value: float) -> float:
    """Intersection over union of the masks with this Dice; NaN stays NaN."""
    return value / (2 - value)
