"""A synthetic volume as a foundation other than nano would be shown it."""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from moe_pipeline.imaging.views import normalise
from moe_pipeline.records.foundation import Sides, View
from moe_pipeline.synthetic.volumes import SyntheticBatch, make_batch

_SMALLEST, _LARGEST = 32, 128  # edges of the generator's volumes: what it can make, and what is worth its time


def make_crop(seed: int, view: View, *, targets: int = 1, first: int = 0) -> SyntheticBatch:
    """One volume of the generator with the sides of a view's crop; stretched where those are no cube's.

    Args:
        seed: which endless set.
        view: whose sides.
        targets: objects in it.
        first: which of the set.
    """
    size = view.size_voxels
    return stretched(make_batch(seed, 1, cube_edge(size), targets_per_image=targets, first=first), size)


def cube_edge(size: Sides) -> int:
    """Edge of the generator's cube from which crops of these sides are made."""
    return size[0] if len(set(size)) == 1 else min(max(*size, _SMALLEST), _LARGEST) // 2 * 2


def stretched(cubes: SyntheticBatch, size: Sides) -> SyntheticBatch:
    """The same volumes with other sides; as they are where those are theirs.

    Args:
        cubes: as the generator makes them.
        size: voxels along x, y and z.
    """
    if cubes.image.shape[2:] == size:
        return cubes
    return SyntheticBatch(
        functional.interpolate(cubes.image, size=size, mode="trilinear"), _stretched(cubes.target, size)
    )


def _stretched(target: Tensor, size: Sides) -> Tensor:
    """Masks (n, k, S, S, S) on a grid of other sides; one that falls between its voxels keeps its middle voxel."""
    stretched = functional.interpolate(target.float(), size=size, mode="nearest-exact") > 0.5
    for mask, whole in zip(stretched.flatten(0, 1), target.flatten(0, 1), strict=True):
        if not mask.any():
            middle = whole.nonzero().float().mean(0)  # (3,)
            voxel = (middle + 0.5) / whole.shape[0] * torch.tensor(size)
            mask[tuple(voxel.long())] = True
    return stretched


def in_view(image: np.ndarray, view: View) -> np.ndarray:
    """A synthetic volume by a view's intensity rule.

    The generator's volumes have nano's rule; any other one starts from values of 0 and more.

    Args:
        image: as the generator makes it.
        view: whose rule to apply.
    """
    positive = image - image.min()
    return normalise(positive, np.ones_like(positive, dtype=bool), view.normalisation)
