"""Augmented copies of a crop, drawn before encoding, through batchgenerators, which is imported for them only."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from batchgenerators.transforms.abstract_transforms import Compose

_MAX_ANGLE = np.deg2rad(20.0)


def augment(
    image: NDArray[np.float32], labels: NDArray[np.integer], seed: int, mirror_axes: tuple[int, ...]
) -> tuple[NDArray[np.float32], NDArray[np.integer]]:
    """A rotated, scaled, mirrored and differently exposed copy of one normalised crop.

    Args:
        image: (S, S, S) normalised intensities.
        labels: (S, S, S), any integer type.
        seed: same seed, same copy.
        mirror_axes: axes that may be mirrored; leave out those that tell classes apart (left and right).

    Returns:
        New arrays of the same shapes and types.
    """
    size = image.shape[0]
    lowest = float(image.min())
    with _global_seeds(seed):
        changed = _transforms(size, lowest, mirror_axes)(
            data=image[None, None].copy(), seg=labels[None, None].astype(np.float32)
        )  # both (1, 1, S, S, S)
    return (
        np.ascontiguousarray(changed["data"][0, 0], dtype=np.float32),
        np.ascontiguousarray(np.rint(changed["seg"][0, 0])).astype(labels.dtype),
    )


def _transforms(size: int, lowest: float, mirror_axes: tuple[int, ...]) -> "Compose":
    from batchgenerators.transforms.abstract_transforms import Compose
    from batchgenerators.transforms.color_transforms import (
        BrightnessMultiplicativeTransform,
        ContrastAugmentationTransform,
        GammaTransform,
    )
    from batchgenerators.transforms.noise_transforms import GaussianBlurTransform, GaussianNoiseTransform
    from batchgenerators.transforms.spatial_transforms import MirrorTransform, SpatialTransform

    spatial = SpatialTransform(
        (size, size, size),
        patch_center_dist_from_border=None,
        do_elastic_deform=False,
        angle_x=(-_MAX_ANGLE, _MAX_ANGLE),
        angle_y=(-_MAX_ANGLE, _MAX_ANGLE),
        angle_z=(-_MAX_ANGLE, _MAX_ANGLE),
        scale=(0.8, 1.25),
        border_mode_data="constant",
        border_cval_data=lowest,
        order_data=1,
        border_mode_seg="constant",
        border_cval_seg=0,
        order_seg=0,
        random_crop=False,
        p_rot_per_sample=0.7,
        p_scale_per_sample=0.7,
    )
    colour = [
        GaussianNoiseTransform(noise_variance=(0, 0.05), p_per_sample=0.3),
        GaussianBlurTransform(blur_sigma=(0.5, 1.0), p_per_sample=0.2),
        BrightnessMultiplicativeTransform(multiplier_range=(0.8, 1.25), p_per_sample=0.3),
        ContrastAugmentationTransform(contrast_range=(0.75, 1.25), p_per_sample=0.3),
        GammaTransform(gamma_range=(0.7, 1.5), retain_stats=True, p_per_sample=0.4),
    ]
    mirror = [MirrorTransform(axes=mirror_axes)] if mirror_axes else []
    return Compose([spatial, *colour, *mirror])


@contextmanager
def _global_seeds(seed: int) -> Iterator[None]:
    """Seed the global generators of numpy and Python for the block: batchgenerators draws from both."""
    states = np.random.get_state(), random.getstate()
    np.random.seed(seed % 2**32)
    random.seed(seed)
    try:
        yield
    finally:
        np.random.set_state(states[0])
        random.setstate(states[1])
