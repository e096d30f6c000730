"""A case in numbers."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from moe_pipeline.imaging.components import label_components
from moe_pipeline.imaging.geometry import Geometry
from moe_pipeline.imaging.volume import Volume
from moe_pipeline.planning.sketch import sketch
from moe_pipeline.records.planning import ChannelMeasures, ClassMeasures, Intensity

_THINNED = 200_000  # voxels; enough for whole-image statistics
_PERCENTILES = (0.5, 5, 50, 95, 99.5)
_Slices = tuple[slice, slice, slice]


def class_boxes(label: NDArray[np.integer[Any]], classes: dict[int, str]) -> dict[int, _Slices]:
    """Bounding box of each class that is there, as slices of (x, y, z)."""
    slowest_first = sorted(range(3), key=lambda axis: -abs(label.strides[axis]))  # many times faster than x, y, z
    outer = _nonzero_box(label, slowest_first)
    found: list[Any] = ndimage.find_objects(label[outer].transpose(slowest_first), max_label=max(classes))
    boxes = {}
    for value in classes:
        if (inner := found[value - 1]) is not None:
            by_axis = dict(zip(slowest_first, inner, strict=True))
            x, y, z = (slice(o.start + by_axis[a].start, o.start + by_axis[a].stop) for a, o in enumerate(outer))
            boxes[value] = (x, y, z)
    return boxes


def measure_channel(
    volume: Volume, label: NDArray[np.integer[Any]], boxes: dict[int, _Slices]
) -> tuple[ChannelMeasures, dict[int, Intensity]]:
    """Intensities of the whole image, of the foreground and of each class.

    Args:
        volume: one channel, canonical.
        label: (x, y, z) on the same grid.
        boxes: from `class_boxes`.
    """
    values = {value: volume.array[box][label[box] == value] for value, box in boxes.items()}
    image = summarise_intensity(_thinned(volume.array).ravel())
    if not values:
        return ChannelMeasures(image=image), {}
    foreground = np.concatenate(list(values.values()))
    measures = ChannelMeasures(
        image=image,
        foreground=summarise_intensity(foreground),
        foreground_quantiles=tuple(short(q) for q in sketch(_few(foreground))),
    )
    return measures, {value: summarise_intensity(chosen) for value, chosen in values.items()}


def measure_class(
    label: NDArray[np.integer[Any]], value: int, box: _Slices, geometry: Geometry, body: NDArray[np.float64]
) -> dict[str, Any]:
    """Fields of `ClassMeasures` that do not depend on intensities.

    Args:
        label: (x, y, z).
        value: of the class.
        box: around it.
        geometry: grid of the label.
        body: (3, 2) box around the body in voxels, from `body_box`.
    """
    mask = label[box] == value
    spacing = np.asarray(geometry.spacing_mm)
    numbers, sizes = label_components(mask)
    largest = ndimage.find_objects(numbers)[max(sizes, key=lambda number: sizes[number]) - 1]
    starts = np.array([side.start for side in box])
    stops = np.array([side.stop for side in box])
    centre = starts + [_mean_index(mask, axis) for axis in range(3)] + 0.5
    n_voxels = int(sum(sizes.values()))
    return {
        "voxels": n_voxels,
        "volume_ml": short(n_voxels * geometry.voxel_ml),
        "box_mm": tuple((short(a), short(b)) for a, b in zip(starts * spacing, stops * spacing, strict=True)),
        "components": len(sizes),
        "object_mm": tuple(short((s.stop - s.start) * mm) for s, mm in zip(largest, spacing, strict=True)),
        "centroid": tuple(short(part) for part in (centre - body[:, 0]) / (body[:, 1] - body[:, 0])),
    }


def body_box(image: NDArray[Any]) -> NDArray[np.float64]:
    """(3, 2) start and stop in voxels of the box around most voxels that are brighter than the mean."""
    thin = _thinned(image)
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


def summarise_intensity(values: NDArray[Any]) -> Intensity:
    """Distribution of some voxels, at least one."""
    low, lower, median, upper, high = np.percentile(_few(values), _PERCENTILES)
    return Intensity(
        mean=short(values.mean(dtype=np.float64)),
        std=short(values.std(dtype=np.float64)),
        median=short(median),
        percentile_00_5=short(low),
        percentile_05=short(lower),
        percentile_95=short(upper),
        percentile_99_5=short(high),
    )


def short(value: float) -> float:
    """Six digits: more would only make the files longer."""
    return float(f"{float(value):.6g}")


def _nonzero_box(label: NDArray[np.integer[Any]], axes: list[int]) -> _Slices:
    """Box around all voxels that are not 0, found along one axis after the other; empty if there is none."""
    box = [slice(0, side) for side in label.shape]
    for axis in axes:
        part = label[tuple(box)]
        hit = np.flatnonzero(part.max(axis=tuple(other for other in range(3) if other != axis), initial=0))
        box[axis] = slice(int(hit[0]), int(hit[-1]) + 1) if hit.size else slice(0, 0)
    return box[0], box[1], box[2]


def _mean_index(mask: NDArray[np.bool_], axis: int) -> float:
    counts = mask.sum(axis=tuple(other for other in range(3) if other != axis))
    return float(counts @ np.arange(len(counts)) / counts.sum())


def _thinned(image: NDArray[Any]) -> NDArray[Any]:
    step = max(int(np.ceil((image.size / _THINNED) ** (1 / 3))), 1)
    return image[::step, ::step, ::step]


def _few(values: NDArray[Any]) -> NDArray[Any]:
    return values[:: max(values.size // (5 * _THINNED), 1)]


def class_measures(fields: dict[str, Any], intensity: tuple[Intensity, ...]) -> ClassMeasures:
    """Join what `measure_class` and `measure_channel` found."""
    return ClassMeasures(**fields, intensity=intensity)
