"""What one gets from the same clicks without any network: a ball, and region growing."""

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from moe_pipeline.imaging.geometry import Box
from moe_pipeline.imaging.overlap import dice
from moe_pipeline.imaging.volume import Volume

_SURROUNDINGS_MM = 32.0
_MULTIPLIERS = (1.0, 1.5, 2.0, 2.5, 3.0, 4.0)
_ITERATIONS = (0, 2)

Mask = NDArray[np.bool_]


def surroundings(truth: Volume) -> Box:
    """Box of the object and 32 mm around it: baselines may not leave it, which is to their favour."""
    places = np.argwhere(truth.array)  # (n, 3)
    margin = np.ceil(_SURROUNDINGS_MM / np.asarray(truth.geometry.spacing_mm)).astype(int)
    start = np.maximum(places.min(axis=0) - margin, 0)
    stop = np.minimum(places.max(axis=0) + margin + 1, truth.array.shape)
    x, y, z = ((int(a), int(b)) for a, b in zip(start, stop, strict=True))
    return x, y, z


def ball(truth: Volume, clicks_mm: NDArray[np.float64], labels: NDArray[np.int64]) -> Mask:
    """The voxels nearest to the clicks inside, as many as the object really has, none nearer to a click outside.

    Args:
        truth: the object, already cut to its surroundings.
        clicks_mm: (n, 3) RAS world.
        labels: (n,), 1 inside, 0 outside.
    """
    near, far = (_distance(truth, clicks_mm[labels == sign]) for sign in (1, 0))
    near = np.where(far < near, np.inf, near)
    count = int(truth.array.sum())
    limit = np.partition(near.ravel(), count - 1)[count - 1]
    return np.asarray((near <= limit) & np.isfinite(near))


def best_growth_dice(image: Volume, truth: Volume, clicks_mm: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    """Best Dice over a sweep of ConfidenceConnected from the clicks inside: chosen by the truth, so too good.

    Args:
        image: cut to the object's surroundings.
        truth: on the same grid.
        clicks_mm: (n, 3) RAS world.
        labels: (n,), 1 inside, 0 outside.
    """
    voxels = np.rint(truth.geometry.world_to_voxel(clicks_mm[labels == 1])).astype(int)  # (n, 3)
    inside = voxels[((voxels >= 0) & (voxels < truth.array.shape)).all(axis=1)]
    grey = sitk.GetImageFromArray(image.array.astype(np.float32))  # axes in reverse, and so are the seeds
    seeds = [tuple(int(index) for index in voxel[::-1]) for voxel in inside]
    results = [
        sitk.ConfidenceConnected(grey, seeds, iterations, multiplier, 1, 1)
        for iterations in _ITERATIONS
        for multiplier in _MULTIPLIERS
    ]
    return max(dice(sitk.GetArrayViewFromImage(grown) > 0, truth.array) for grown in results)


def _distance(truth: Volume, clicks_mm: NDArray[np.float64]) -> NDArray[np.float64]:
    """Distance in mm of every voxel from the nearest of some clicks; infinite without any."""
    spacing = np.asarray(truth.geometry.spacing_mm)
    nearest = np.full(truth.array.shape, np.inf)
    for click in truth.geometry.world_to_voxel(clicks_mm) if len(clicks_mm) else ():
        along = [((np.arange(n) - c) * s) ** 2 for n, c, s in zip(truth.array.shape, click, spacing, strict=True)]
        distance = np.sqrt(along[0][:, None, None] + along[1][:, None] + along[2])
        nearest = np.minimum(nearest, distance)
    return nearest
