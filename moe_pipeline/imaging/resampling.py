"""Values of a volume at the voxels of another grid."""

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from moe_pipeline.imaging.geometry import Box, Geometry
from moe_pipeline.imaging.itk import image_from_volume, set_grid, sitk
from moe_pipeline.imaging.volume import Volume

Order = Literal["linear", "nearest"]
_INTERPOLATORS = {"linear": sitk.sitkLinear, "nearest": sitk.sitkNearestNeighbor}
_VOXEL_GRID_TOLERANCE = 1e-4  # voxels; headers keep positions in single precision
_EDGE_TOLERANCE = 1e-6  # voxels; decides points that lie on the border of the image but for rounding


def resample(volume: Volume, grid: Geometry, *, order: Order, outside: float) -> Volume:
    """Sample a volume at the voxel centres of any grid: a view, a crop of one, or the way back.

    Args:
        volume: image or label map on any grid.
        grid: where values are wanted; may reach beyond the volume or miss it.
        order: "linear" gives float32, "nearest" keeps the dtype.
        outside: value of voxels whose centre lies outside the volume's field of view (see `inside`).

    Returns:
        A volume with an array of its own, which may be written to.
    """
    dtype = np.dtype(np.float32) if order == "linear" else volume.array.dtype
    box = shared_voxel_grid(volume.geometry, grid)
    if box is not None:
        from moe_pipeline.imaging.cropping import crop_volume  # imports torch, which most callers here do without

        return Volume(crop_volume(volume, box, outside=outside).array.astype(dtype), grid)
    within = inside(volume.geometry, grid)
    if not within.any():
        return Volume(np.full(grid.shape, outside, dtype), grid)
    values = _sampled(_needed_part(volume, grid), grid, order, dtype)
    values[~within] = outside
    return Volume(values, grid)


def inside(source: Geometry, grid: Geometry) -> NDArray[np.bool_]:
    """Which voxel centres of `grid`, (x, y, z), lie in the field of view of `source`: its voxels with their borders."""
    lowest, highest = -0.5 - _EDGE_TOLERANCE, np.asarray(source.shape) - 0.5 - _EDGE_TOLERANCE
    within = np.ones((1, 1, 1), dtype=bool)
    for axis, index in enumerate(_source_indices(source, grid)):
        within = within & (index >= lowest) & (index < highest[axis])
    return np.array(np.broadcast_to(within, grid.shape))


def shared_voxel_grid(source: Geometry, grid: Geometry) -> Box | None:
    """The box of `source` that `grid` is, if their voxels coincide; then sampling is slicing, to the bit."""
    matrix = np.linalg.inv(source.affine) @ grid.affine
    start = np.round(matrix[:3, 3]).astype(int)
    drift = np.abs(matrix[:3, :3] - np.eye(3)) @ grid.shape + np.abs(matrix[:3, 3] - start)  # voxels, at the far corner
    if drift.max() > _VOXEL_GRID_TOLERANCE:
        return None
    x, y, z = ((int(first), int(first) + side) for first, side in zip(start, grid.shape, strict=True))
    return x, y, z


def _source_indices(source: Geometry, grid: Geometry) -> list[NDArray[np.float64]]:
    """Per source axis the index of every voxel of `grid`, with side 1 along grid axes that do not change it."""
    matrix = np.linalg.inv(source.affine) @ grid.affine
    indices = []
    for row in matrix[:3]:
        index = np.full((1, 1, 1), row[3])
        for axis, step in enumerate(row[:3]):
            if abs(step) * grid.shape[axis] > _EDGE_TOLERANCE:
                along = np.expand_dims(
                    step * np.arange(grid.shape[axis]), [other for other in range(3) if other != axis]
                )
                index = index + along  # broadcasts to at most (x, y, z)
        indices.append(index)
    return indices


def _needed_part(volume: Volume, grid: Geometry) -> Volume:
    """The voxels that the grid can touch, so that a crop of a large image never copies the whole image."""
    sides = []
    for index, side in zip(_source_indices(volume.geometry, grid), volume.geometry.shape, strict=True):
        start = min(max(int(np.floor(index.min())) - 1, 0), side - 1)
        sides.append((start, max(min(int(np.ceil(index.max())) + 2, side), start + 1)))
    box: Box = (sides[0], sides[1], sides[2])
    return Volume(volume.array[tuple(slice(*side) for side in box)], volume.geometry.cropped(box))


def _sampled(volume: Volume, grid: Geometry, order: Order, dtype: np.dtype[Any]) -> NDArray[Any]:
    wanted = np.dtype(np.uint8) if dtype == np.bool_ else dtype
    image = image_from_volume(Volume(volume.array.astype(wanted, copy=False), volume.geometry))
    resampler = sitk.ResampleImageFilter()
    resampler.SetInterpolator(_INTERPOLATORS[order])
    resampler.SetUseNearestNeighborExtrapolator(True)
    set_grid(resampler, grid)
    values: NDArray[Any] = sitk.GetArrayFromImage(resampler.Execute(image)).transpose()  # (z, y, x) -> (x, y, z)
    return values.astype(dtype, copy=False)
