"""Measures of one class on one grid, with their empty cases spelled out.

| class is in        | dice | iou | nsd | hd95_mm | volumes  | volumetric_similarity |
|--------------------|------|-----|-----|---------|----------|-----------------------|
| both masks         | yes  | yes | yes | yes     | yes      | yes                   |
| one mask only      | 0    | 0   | 0   | inf     | one is 0 | 0                     |
| neither            | NaN  | NaN | NaN | NaN     | 0        | NaN                   |

`evaluation.surfaces` says what a surface is; the definitions are those of DeepMind's surface-distance. Where the rules
take boundary voxels for hd95_mm (`evaluation.boundary`), it is NaN instead of infinite if the prediction is empty.
"""

from dataclasses import dataclass

import numpy as np

from moe_pipeline.evaluation.boundary import boundary_hausdorff_mm
from moe_pipeline.evaluation.surfaces import (
    BoolArray,
    Spacing,
    hausdorff_mm,
    normalised_surface_distance,
    surface_distances,
)
from moe_pipeline.imaging.overlap import dice
from moe_pipeline.records.evaluation import MeasureRules

USUAL = MeasureRules()
"""As most papers measure: NSD at 1 mm, distances between pieces of the surface."""

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
    volumetric_similarity: float


def class_metrics(
    prediction: BoolArray, reference: BoolArray, spacing_mm: Spacing, rules: MeasureRules = USUAL
) -> ClassMetrics:
    """Measure one class.

    Args:
        prediction: mask, (X, Y, Z).
        reference: mask on the same grid, (X, Y, Z).
        spacing_mm: edges of a voxel along x, y, z.
        rules: tolerance of the NSD, and what distances are taken between.

    Raises:
        TypeError: if a mask is not boolean.
        ValueError: if the shapes differ.
    """
    overlap = dice(prediction, reference)
    distances = surface_distances(prediction, reference, spacing_mm)
    if rules.hd95 == "boundary_voxels":
        hd95_mm = boundary_hausdorff_mm(prediction, reference, spacing_mm, _HD_PERCENT)
    else:
        hd95_mm = hausdorff_mm(distances, _HD_PERCENT)
    voxel_ml = float(np.prod(spacing_mm)) / 1000
    n_prediction, n_reference = (int(np.count_nonzero(mask)) for mask in (prediction, reference))
    return ClassMetrics(
        dice=overlap,
        iou=iou_from_dice(overlap),
        nsd=normalised_surface_distance(distances, rules.nsd_tolerance_mm),
        hd95_mm=hd95_mm,
        volume_reference_ml=n_reference * voxel_ml,
        volume_prediction_ml=n_prediction * voxel_ml,
        volumetric_similarity=volumetric_similarity(n_prediction, n_reference),
    )


def volumetric_similarity(one: int, other: int) -> float:
    """1 - |A - B| / (A + B) of two volumes, whatever they overlap; NaN if both are 0."""
    return 1 - abs(one - other) / (one + other) if one + other else float("nan")


def iou_from_dice(value: float) -> float:
    """Intersection over union of the masks with this Dice; NaN stays NaN."""
    return value / (2 - value)
