"""Planes through a volume, turned the way radiologists look at them."""

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from moe_pipeline.imaging.volume import Volume

Plane: TypeAlias = Literal["axial", "coronal", "sagittal"]

_NORMAL_AXIS: dict[Plane, int] = {"sagittal": 0, "coronal": 1, "axial": 2}


@dataclass(frozen=True, slots=True)
class Slice:
    """One plane as a picture: rows from top to bottom, columns from left to right."""

    array: NDArray[Any]
    """(rows, columns)."""
    pixel_mm: tuple[float, float]
    """Height and width of an element in mm."""


def middle_voxel(labels: NDArray[Any]) -> tuple[int, int, int]:
    """A voxel (x, y, z) whose three planes all go through the labelled voxels; the grid's middle if there are none.

    Along each axis it is the median of the labelled voxels' positions, so a plane always meets some of them.
    """
    mask = labels > 0
    if not mask.any():
        x, y, z = (n // 2 for n in labels.shape)
        return x, y, z
    x, y, z = (_median_index(mask.sum(axis=tuple({0, 1, 2} - {axis}))) for axis in range(3))
    return x, y, z


def take_slice(volume: Volume, plane: Plane, index: int) -> Slice:
    """Cut one plane out of a canonical volume (RAS+).

    Axial and coronal slices show the patient's right on the left of the picture; anterior (axial) or superior (coronal)
    is on top. Sagittal slices show anterior on the left and superior on top.

    Args:
        volume: (X, Y, Z).
        plane: which way to cut.
        index: voxel index along the axis that the plane is perpendicular to.
    """
    axis = _NORMAL_AXIS[plane]
    across, up = (other for other in range(3) if other != axis)
    flat = np.take(volume.array, index, axis=axis)  # (across, up)
    array = flat[::-1, ::-1].T  # (up, across)
    spacing_mm = volume.geometry.spacing_mm
    return Slice(np.ascontiguousarray(array), (spacing_mm[up], spacing_mm[across]))


def normal_index(voxel: tuple[int, int, int], plane: Plane) -> int:
    """Index of the slice of this plane that goes through a voxel."""
    return voxel[_NORMAL_AXIS[plane]]


def outlines(labels: NDArray[Any]) -> NDArray[np.bool_]:
    """Labelled pixels (rows, columns) that touch another label; the border of the picture is not an outline."""
    padded = np.pad(labels, 1, mode="edge")
    centre = padded[1:-1, 1:-1]
    neighbours = (padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:])
    differs = np.logical_or.reduce([neighbour != centre for neighbour in neighbours])
    return np.asarray(differs & (centre > 0), dtype=np.bool_)


def _median_index(profile: NDArray[Any]) -> int:
    cumulative = np.cumsum(profile)
    return int(np.searchsorted(cumulative, (cumulative[-1] + 1) // 2))
