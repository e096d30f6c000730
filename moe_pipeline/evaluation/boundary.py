"""Boundaries as voxels: those of a mask that one erosion takes away. Some challenges measure distances so.

An erosion takes away a voxel if one of the 18 around it that share a face or an edge is outside the mask. Beyond the
grid all counts as inside: there a mask that is cut off by the image has no boundary. That is what the binary erosion of
ITK does with its ball of one voxel.
"""

import numpy as np
from scipy.ndimage import binary_erosion, generate_binary_structure

from moe_pipeline.evaluation.surfaces import BoolArray, FloatArray, Spacing, nearest_mm

_BALL = generate_binary_structure(3, 2)


def boundary_hausdorff_mm(prediction: BoolArray, reference: BoolArray, spacing_mm: Spacing, percent: float) -> float:
    """Larger one of the two directed percentiles of the distances between boundary voxels, each counted once.

    Args:
        prediction: mask, (X, Y, Z).
        reference: mask on the same grid, (X, Y, Z).
        spacing_mm: edges of a voxel along x, y, z.
        percent: interpolated linearly between distances.

    Returns:
        mm. NaN if the prediction has no boundary, as where it is empty; infinite if only the reference has none.
    """
    of_prediction, of_reference = (_boundary_mm(mask, spacing_mm) for mask in (prediction, reference))
    if len(of_prediction) == 0:
        return float("nan")
    if len(of_reference) == 0:
        return float("inf")
    directed = (nearest_mm(of_prediction, of_reference), nearest_mm(of_reference, of_prediction))
    return max(float(np.percentile(distances, percent)) for distances in directed)


def _boundary_mm(mask: BoolArray, spacing_mm: Spacing) -> FloatArray:
    """Centres of the boundary voxels in mm, (N, 3)."""
    boundary = mask & ~binary_erosion(mask, _BALL, border_value=1)
    return np.asarray(np.argwhere(boundary) * np.asarray(spacing_mm), dtype=np.float64)
