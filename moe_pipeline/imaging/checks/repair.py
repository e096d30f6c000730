"""Faults of a volume that can be repaired without guessing. New volumes are returned; nothing is written."""

from itertools import product

import numpy as np

from moe_pipeline.errors import ImageError
from moe_pipeline.imaging.geometry import Geometry
from moe_pipeline.imaging.io.files import ROUNDING_TOLERANCE
from moe_pipeline.imaging.resampling import resample
from moe_pipeline.imaging.volume import Volume, to_canonical, to_grid_orientation

SNAP_TOLERANCE = 0.1
"""How far a voxel may lie from its place, in voxels, for two headers to mean the same grid."""


def distance_in_voxels(grid: Geometry, reference: Geometry) -> float:
    """How far apart the same voxel of two grids can lie, in voxels of the reference; infinite if the sizes differ."""
    if grid.shape != reference.shape:
        return float("inf")
    corners = np.array(list(product(*((0, side - 1) for side in grid.shape))))  # (8, 3): no voxel lies further off
    return float(np.abs(reference.world_to_voxel(grid.voxel_to_world(corners)) - corners).max())


def can_snap(grid: Geometry, reference: Geometry) -> bool:
    """Whether two headers mean the same voxels, but for rounding and the order of the axes."""
    return distance_in_voxels(grid.canonical(), reference.canonical()) <= SNAP_TOLERANCE


def snapped(volume: Volume, reference: Geometry) -> Volume:
    """The same voxels with the header, and in the axis order, of the image they belong to."""
    canonical = to_canonical(volume)
    return to_grid_orientation(Volume(canonical.array, reference.canonical()), reference)


def on_grid_of(label: Volume, reference: Geometry) -> Volume:
    """A label map at the nearest voxels of the image it belongs to; background outside of it.

    Raises:
        ImageError: if no voxel of a class is left.
    """
    moved = resample(label, reference, order="nearest", outside=0)
    if label.array.any() and not moved.array.any():
        raise ImageError("resampled onto its image, no voxel of the label is left: they do not overlap")
    return moved


def rounded(label: Volume) -> Volume:
    """Labels without the noise of a computation; those that are further from whole numbers stay as they are."""
    whole = np.rint(label.array)
    if np.abs(label.array - whole).max() > ROUNDING_TOLERANCE:
        return label
    return Volume(whole, label.geometry)
