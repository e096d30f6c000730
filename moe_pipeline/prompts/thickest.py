"""Where a mask is thickest: the places that a careful person would click."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from moe_pipeline.imaging.components import label_components

Spacing = tuple[float, float, float]

_EQUAL_MM = 1e-6


def depth_mm(mask: NDArray[np.bool_], spacing_mm: Spacing) -> NDArray[np.float64]:
    """Distance of each voxel of a mask from its border, 0 outside; the array's faces count as border."""
    padded = ndimage.distance_transform_edt(np.pad(mask, 1), sampling=spacing_mm)
    return np.asarray(padded[1:-1, 1:-1, 1:-1])


def deepest(mask: NDArray[np.bool_], spacing_mm: Spacing, n: int = 1) -> NDArray[np.int64]:
    """Voxels (k, 3) deep inside a mask and far from each other, the deepest first; k is n, or less in a small mask.

    Each one has the greatest distance from the border and from those before it.

    Args:
        mask: (x, y, z), not empty.
        spacing_mm: of the voxels.
        n: how many.
    """
    depth = depth_mm(mask, spacing_mm)
    grid = [np.arange(side) * mm for side, mm in zip(mask.shape, spacing_mm, strict=True)]
    found: list[list[int]] = []
    while len(found) < n and depth.any():
        place = _middle(np.argwhere(depth > depth.max() - _EQUAL_MM), spacing_mm)
        found.append(place.tolist())
        squares = [(along - along[index]) ** 2 for along, index in zip(grid, place, strict=True)]
        x, y, z = np.ix_(*squares)
        depth = np.minimum(depth, np.sqrt(x + y + z))
    return np.array(found, dtype=np.int64)


def _middle(voxels: NDArray[np.int64], spacing_mm: Spacing) -> NDArray[np.int64]:
    """Of voxels (n, 3) that are equally deep, as in the slices of a flat object, the one nearest to their mean."""
    away = ((voxels - voxels.mean(axis=0)) * spacing_mm) ** 2
    return np.asarray(voxels[int(away.sum(axis=1).argmin())])


def deepest_of_parts(
    mask: NDArray[np.bool_], spacing_mm: Spacing, n: int, least_share: float = 0.0
) -> NDArray[np.int64]:
    """The deepest voxel (k, 3) of each of the n largest connected parts of a mask, the largest part first.

    Args:
        mask: (x, y, z).
        spacing_mm: of the voxels.
        n: most parts.
        least_share: of the largest part's volume, below which a part does not count.
    """
    numbers, sizes = label_components(mask)
    order = sorted(sizes, key=lambda number: (-sizes[number], number))[:n]
    kept = [number for number in order if sizes[number] >= least_share * sizes[order[0]]]
    return np.concatenate([np.empty((0, 3), np.int64), *(deepest(numbers == k, spacing_mm) for k in kept)])
