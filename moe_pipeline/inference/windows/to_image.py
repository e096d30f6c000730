"""From the low-resolution voxels of a view to the voxels of the image, a slab at a time."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from moe_pipeline.imaging.geometry import Box, Geometry
from moe_pipeline.inference.windows.stitch import StitchedLogits

_SLAB_VOXELS = 4 << 20
_ROUNDING = 1e-6  # low-resolution voxels


@dataclass(frozen=True, slots=True)
class ProbabilityMap:
    """Probabilities in a box of the canonical image grid; nothing outside it.

    Attributes:
        box: half-open voxel intervals.
        values: float32, the box's shape.
    """

    box: Box
    values: NDArray[np.float32]


def image_box(stitched: StitchedLogits, image: Geometry, above: float | None = None) -> Box | None:
    """Voxels of the image in which stitched logits have something to say.

    Args:
        stitched: of any view over the image.
        image: canonical grid.
        above: leave out what lies surely not above this logit; None for the whole stitched logits.

    Returns:
        None where there is nothing.
    """
    low_res_voxels = np.array(stitched.logits.shape)
    first, last = np.zeros(3), low_res_voxels - 1.0
    if above is not None:
        found = [np.flatnonzero((stitched.logits > above).any(axis=axes)) for axes in ((1, 2), (0, 2), (0, 1))]
        if not found[0].size:
            return None
        first = (
            np.array([ends[0] for ends in found]) - 1.0
        )  # between a low-resolution voxel below and one above, the value may be
        last = np.array([ends[-1] for ends in found]) + 1.0
        first, last = np.maximum(first, -0.5), np.minimum(last, low_res_voxels - 0.5)
    else:
        first, last = first - 0.5, last + 0.5
    scale, offset = _low_res_per_voxel(stitched, image)
    start = np.maximum(np.ceil((first - offset) / scale - _ROUNDING), 0).astype(int)
    stop = np.minimum(np.floor((last - offset) / scale + _ROUNDING) + 1, image.shape).astype(int)
    if (start >= stop).any():
        return None
    x, y, z = zip(start.tolist(), stop.tolist(), strict=True)
    return x, y, z


def slabs(box: Box) -> Iterator[Box]:
    """Cut a box of voxels along z into slabs of bounded size."""
    (x0, x1), (y0, y1), (z0, z1) = box
    thickness = max(_SLAB_VOXELS // ((x1 - x0) * (y1 - y0)), 1)
    for start in range(z0, z1, thickness):
        yield (x0, x1), (y0, y1), (start, min(start + thickness, z1))


def logits_in(stitched: StitchedLogits, image: Geometry, box: Box, outside: float) -> NDArray[np.float32]:
    """Trilinear interpolation of stitched logits at voxels of the image.

    The axes of a view are those of the canonical image, so this is one product of matrices per axis.

    Args:
        stitched: of any view over the image.
        image: canonical grid.
        box: voxels wanted.
        outside: where the stitched logits does not reach.

    Returns:
        (x, y, z) in Fortran order, as label maps are stored.
    """
    scale, offset = _low_res_per_voxel(stitched, image)
    places = [offset[axis] + scale[axis] * np.arange(*box[axis]) for axis in range(3)]
    (x_part, x), (y_part, y), (z_part, z) = (
        _weights(low_res_voxels, side) for low_res_voxels, side in zip(places, stitched.logits.shape, strict=True)
    )
    part = stitched.logits[x_part, y_part, z_part].transpose()  # (c_z, c_y, c_x)
    values = y @ (part @ x.T)  # (c_z, n_y, n_x)
    values = (z @ values.reshape(len(values), -1)).reshape(-1, *values.shape[1:])  # (n_z, n_y, n_x)
    values = values.transpose()  # (n_x, n_y, n_z)
    for axis, low_res_voxels in enumerate(places):
        beyond = (low_res_voxels < -0.5 - _ROUNDING) | (low_res_voxels > stitched.logits.shape[axis] - 0.5 + _ROUNDING)
        if beyond.any():
            values[(slice(None),) * axis + (beyond,)] = outside
    return values


def _weights(low_res_voxels: NDArray[np.float64], side: int) -> tuple[slice, NDArray[np.float32]]:
    """The low-resolution voxels that fractional indices lie between, and the share of each of them, (n, voxels)."""
    clamped = np.clip(low_res_voxels, 0, side - 1)
    part = slice(int(np.floor(clamped.min())), int(np.ceil(clamped.max())) + 1)
    shares = 1 - np.abs(clamped[:, None] - np.arange(part.start, part.stop))
    return part, np.maximum(shares, 0).astype(np.float32)


def _low_res_per_voxel(stitched: StitchedLogits, image: Geometry) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Per axis the low-resolution voxel index of voxel i is scale * i + offset."""
    own = stitched.geometry
    scale = np.asarray(image.spacing_mm) / np.asarray(own.spacing_mm)
    return scale, own.world_to_voxel(np.asarray(image.origin_mm))
