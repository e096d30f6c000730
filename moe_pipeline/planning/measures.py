"""Where the classes of a case are: size, place, parts."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from moe_pipeline.imaging.components import Region, connected_parts, regions
from moe_pipeline.imaging.geometry import Geometry
from moe_pipeline.planning.intensities import short, thinned


def find_classes(label: NDArray[np.integer[Any]], classes: dict[int, str]) -> dict[int, Region]:
    """The region of each class that is there.

    Args:
        label: (x, y, z).
        classes: value to name.
    """
    found = regions(label)
    return {value: found[value] for value in classes if value in found}


def measure_class(
    label: NDArray[np.integer[Any]], value: int, region: Region, geometry: Geometry, body: NDArray[np.float64]
) -> dict[str, Any]:
    """Fields of `ClassMeasures` that do not depend on intensities.

    Args:
        label: (x, y, z).
        value: of the class.
        region: where it is.
        geometry: grid of the label.
        body: (3, 2) box around the body in voxels, from `body_box`.
    """
    spacing = np.asarray(geometry.spacing_mm)
    parts = connected_parts(label[region.box] == value)
    largest = max(parts, key=lambda part: part.voxels).box
    starts = np.array([side.start for side in region.box])
    stops = np.array([side.stop for side in region.box])
    centre = np.asarray(region.centre) + 0.5
    return {
        "voxels": region.voxels,
        "volume_ml": short(region.voxels * geometry.voxel_ml),
        "box_mm": tuple((short(a), short(b)) for a, b in zip(starts * spacing, stops * spacing, strict=True)),
        "components": len(parts),
        "object_mm": tuple(short((s.stop - s.start) * mm) for s, mm in zip(largest, spacing, strict=True)),
        "centroid": tuple(short(part) for part in (centre - body[:, 0]) / (body[:, 1] - body[:, 0])),
    }


def body_box(image: NDArray[Any]) -> NDArray[np.float64]:
    """(3, 2) start and stop in voxels of the box around most voxels that are brighter than the mean."""
    thin = thinned(image)
    bright = thin > thin.mean(dtype=np.float64)
    box = np.array([[0.0, side] for side in image.shape])
    for axis in range(3):
        counts = bright.sum(axis=tuple(other for other in range(3) if other != axis))
        if counts.sum() == 0:
            continue
        share = np.cumsum(counts) / counts.sum()
        step = image.shape[axis] / len(counts)
        box[axis] = np.searchsorted(share, 0.01) * step, (np.searchsorted(share, 0.99) + 1) * step
    return box
