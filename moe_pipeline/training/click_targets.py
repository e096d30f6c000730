"""Where in a crop a click on a class is best: deep inside the object."""

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from moe_pipeline.imaging.components import label_components


def click_target(mask: NDArray[np.bool_], side: int, power: float) -> NDArray[np.float32]:
    """A distribution over the cells of a coarse grid: each cell's share of the depth of the mask.

    A voxel counts by its distance from the border over the largest one of its connected part, to some power: so each
    part has its hottest place where it is thickest. Where the crop cuts an object, its face is no border.

    Args:
        mask: (S, S, S), not empty.
        side: cells along each axis; divides S.
        power: the higher, the closer to the thickest place.

    Returns:
        (side, side, side), summing to 1.
    """
    low, high = _box(mask)
    part = mask[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]
    depth = distance_transform_edt(part)
    numbers, _ = label_components(part)
    thickest = np.zeros(int(numbers.max()) + 1)
    np.maximum.at(thickest, numbers.ravel(), depth.ravel())
    thickest[0] = 1.0
    weights = np.zeros(mask.shape, np.float32)
    weights[tuple(slice(a, b) for a, b in zip(low, high, strict=True))] = (depth / thickest[numbers]) ** power
    edge = mask.shape[0] // side
    cells = weights.reshape(side, edge, side, edge, side, edge).sum(axis=(1, 3, 5), dtype=np.float64)
    target: NDArray[np.float32] = (cells / cells.sum()).astype(np.float32)
    return target


def _box(mask: NDArray[np.bool_]) -> tuple[list[int], list[int]]:
    """The mask's box with one voxel of its surroundings, where the crop has any."""
    where = [np.flatnonzero(mask.any(axis=tuple({0, 1, 2} - {axis}))) for axis in range(3)]
    low = [max(int(places[0]) - 1, 0) for places in where]
    high = [min(int(places[-1]) + 2, side) for places, side in zip(where, mask.shape, strict=True)]
    return low, high
