"""Regions of a label map, and the connected parts of a mask: counted without copies of eight bytes per voxel."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Region:
    """The voxels of one value."""

    voxels: int
    """How many."""
    box: tuple[slice, slice, slice]
    """Around them, half-open, along x, y, z."""
    centre: tuple[float, float, float]
    """Mean of their indices along x, y, z."""


def regions(labels: NDArray[np.integer[Any]]) -> dict[int, Region]:
    """The region of each value above 0 that a label map holds.

    Args:
        labels: (x, y, z) unsigned integers.
    """
    import cc3d  # comes with acvl-utils, whose own functions import scikit-image

    values = None
    if int(labels.max(initial=0)) >= labels.size:  # more than cc3d takes
        values, compact = np.unique(labels, return_inverse=True)
        labels = compact.reshape(labels.shape).astype(np.uint32)
    found = cc3d.statistics(labels)
    names = range(len(found["voxel_counts"])) if values is None else values
    return {
        int(name): Region(int(count), box, (float(centre[0]), float(centre[1]), float(centre[2])))
        for name, count, box, centre in zip(
            names, found["voxel_counts"], found["bounding_boxes"], found["centroids"], strict=True
        )
        if name > 0 and count > 0
    }


def label_components(mask: NDArray[np.bool_]) -> tuple[NDArray[np.integer[Any]], dict[int, int]]:
    """Number the parts of a mask that touch by a face, an edge or a corner.

    Args:
        mask: (x, y, z).

    Returns:
        Part number of each voxel, 0 outside the mask, and the number of voxels by part number.
    """
    numbers = _numbered(mask)
    return numbers, {number: part.voxels for number, part in regions(numbers).items()}


def connected_parts(mask: NDArray[np.bool_]) -> list[Region]:
    """The parts of a mask that touch by a face, an edge or a corner.

    Args:
        mask: (x, y, z).
    """
    return list(regions(_numbered(mask)).values())


def _numbered(mask: NDArray[np.bool_]) -> NDArray[np.integer[Any]]:
    import cc3d

    if mask.flags.f_contiguous and not mask.flags.c_contiguous:  # its transpose needs no copy
        reverse: NDArray[np.integer[Any]] = cc3d.connected_components(mask.transpose(), connectivity=26)
        return reverse.transpose()
    numbers: NDArray[np.integer[Any]] = cc3d.connected_components(np.ascontiguousarray(mask), connectivity=26)
    return numbers
