"""NIfTI files whose index axes are not quite at right angles, which ITK refuses to open, read all the same."""

from itertools import product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from moe_pipeline.errors import GeometryError
from moe_pipeline.imaging.checks.repair import SNAP_TOLERANCE
from moe_pipeline.imaging.geometry import Geometry
from moe_pipeline.imaging.io import nifti
from moe_pipeline.imaging.io.native import read_channels
from moe_pipeline.imaging.volume import Volume


def read_without_shear(path: Path) -> tuple[list[Volume], float]:
    """As `native.read_channels`, but a header that is sheared by a little is replaced by the nearest that is not.

    Returns:
        The channels, and how far the farthest voxel moved, in voxels; 0 for a header that is as it should be.

    Raises:
        ImageError: as `read_channels`.
        GeometryError: as `read_channels`, and if a voxel would move by more than `repair.SNAP_TOLERANCE`.
    """
    try:
        return read_channels(path), 0.0
    except GeometryError as error:
        affine = nifti.read_header(path).sform if error.kind == "sheared" and nifti.is_nifti(path) else None
        if affine is None:
            raise
        voxels = nifti.read_voxels(path)
        grid = nearest_grid(affine, (*voxels.shape, 1, 1)[:3])
        moved = _farthest_move(affine, grid)
        if moved > SNAP_TOLERANCE:
            message = f"{error} To remove shear it would move voxels by {moved:.2g} of their size."
            raise GeometryError(message, kind="sheared") from error
    stacked = voxels.reshape((*grid.shape, -1), order="F")  # (x, y, z, t)
    return [Volume(stacked[..., index], grid) for index in range(stacked.shape[3])], moved


def nearest_grid(affine: NDArray[np.float64], shape: tuple[int, int, int]) -> Geometry:
    """The grid with the same spacing and centre whose axes are the nearest to those of a 4x4 affine."""
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    left, _, right = np.linalg.svd(affine[:3, :3] / spacing)
    direction = left @ right
    middle = (np.array(shape) - 1) / 2
    origin = affine[:3, :3] @ middle + affine[:3, 3] - direction * spacing @ middle
    return Geometry(shape, tuple(spacing.tolist()), tuple(origin.tolist()), tuple(direction.ravel().tolist()))


def _farthest_move(affine: NDArray[np.float64], grid: Geometry) -> float:
    corners = np.array(list(product(*((0, side - 1) for side in grid.shape))))  # (8, 3)
    there = corners @ affine[:3, :3].T + affine[:3, 3]
    return float(np.abs(grid.world_to_voxel(there) - corners).max())
