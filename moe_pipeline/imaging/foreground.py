"""SegVol's preprocessing: intensities between two percentiles of what is brighter than the mean of the image."""

import numpy as np
from numpy.typing import NDArray

from moe_pipeline.imaging.geometry import Box

_PERCENTILES = (0.05, 99.95)


def foreground_range(array: NDArray[np.number]) -> tuple[float, float]:
    """Percentiles 0.05 and 99.95 of the voxels above the mean of the whole image.

    Where all voxels are equal, or there are none, both are the same.
    """
    if array.size == 0:
        return 0.0, 0.0
    mean = array.mean(dtype=np.float64)
    foreground = array[array > mean]
    if foreground.size == 0:
        return float(mean), float(mean)
    low, high = np.percentile(foreground, _PERCENTILES)
    return float(low), float(high)


def scaled_to(array: NDArray[np.number], limits: tuple[float, float]) -> NDArray[np.float32]:
    """Intensities clipped to limits and brought to [0, 1]; all zeros if there is nothing between them."""
    low, high = limits
    if high <= low:
        return np.zeros(array.shape, np.float32)
    scaled: NDArray[np.float32] = (np.clip(array.astype(np.float32), low, high) - np.float32(low)) / np.float32(
        high - low
    )
    return scaled


def foreground_box(scaled: NDArray[np.float32]) -> Box:
    """The smallest box around all that is above 0, the whole image if nothing is."""
    sides = []
    for axis in range(3):
        others = tuple(other for other in range(3) if other != axis)
        places = np.flatnonzero((scaled > 0).any(axis=others))
        sides.append((int(places[0]), int(places[-1]) + 1) if places.size else (0, scaled.shape[axis]))
    x, y, z = sides
    return x, y, z
