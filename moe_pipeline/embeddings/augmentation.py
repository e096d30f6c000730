"""Augmented copies of a crop, drawn before encoding, through batchgenerators, which is imported for them only."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from moe_pipeline.records.foundation import Spacing

if TYPE_CHECKING:
    from batchgenerators.transforms.abstract_transforms import Compose

RECIPE_VERSION = 1
"""Of what is done with the settings: goes up whenever the same settings would give another copy."""

_ALIKE = 1.25  # largest ratio of two spacings that are as good as equal where their axes are turned into each other

Range = tuple[float, float]


@dataclass(frozen=True, slots=True)
class AugmentationSettings:
    """How much an augmented copy may differ, and with which chance in each respect. Intensities are normalised ones."""

    max_angle_degrees: float = 20.0
    """Rotation about each axis, to both sides."""
    scale: Range = (0.8, 1.25)
    """Factor of the size of what is shown."""
    rotate_chance: float = 0.7
    scale_chance: float = 0.7
    noise_variance: Range = (0.0, 0.05)
    noise_chance: float = 0.3
    blur_sigma_voxels: Range = (0.5, 1.0)
    blur_chance: float = 0.2
    brightness: Range = (0.8, 1.25)
    """Factor of all intensities."""
    brightness_chance: float = 0.3
    contrast: Range = (0.75, 1.25)
    """Factor of their distance from the mean."""
    contrast_chance: float = 0.3
    gamma: Range = (0.7, 1.5)
    """Exponent, mean and deviation restored."""
    gamma_chance: float = 0.4

    def recipe(self) -> dict[str, Any]:
        """All that a copy depends on besides its crop and its seed, for the keys of caches."""
        return {"version": RECIPE_VERSION, **asdict(self)}


PLAIN = AugmentationSettings()


def augment(
    image: NDArray[np.float32],
    labels: NDArray[np.integer],
    seed: int,
    mirror_axes: tuple[int, ...],
    settings: AugmentationSettings = PLAIN,
    spacing_mm: Spacing = (1.0, 1.0, 1.0),
) -> tuple[NDArray[np.float32], NDArray[np.integer]]:
    """A rotated, scaled, mirrored and differently exposed copy of one normalised crop.

    Args:
        image: (X, Y, Z) normalised intensities.
        labels: (X, Y, Z), any integer type.
        seed: same seed, same copy.
        mirror_axes: axes that may be mirrored; leave out those that tell classes apart (left and right).
        settings: how much it may differ.
        spacing_mm: edges of a voxel. Axes along which they differ much are not turned into each other.

    Returns:
        New arrays of the same shapes and types.
    """
    lowest = float(image.min())
    angles = _angles(spacing_mm, np.deg2rad(settings.max_angle_degrees))
    with _global_seeds(seed):
        changed = _transforms(image.shape, angles, lowest, mirror_axes, settings)(
            data=image[None, None].copy(), seg=labels[None, None].astype(np.float32)
        )  # both (1, 1, X, Y, Z)
    return (
        np.ascontiguousarray(changed["data"][0, 0], dtype=np.float32),
        np.ascontiguousarray(np.rint(changed["seg"][0, 0])).astype(labels.dtype),
    )


def _angles(spacing_mm: Spacing, largest: float) -> tuple[float, float, float]:
    """Largest rotation about x, y and z, in radians: turned in voxels, unlike spacings would shear what is shown."""
    others = (spacing_mm[1:], spacing_mm[::2], spacing_mm[:2])
    x, y, z = (largest if max(two) <= _ALIKE * min(two) else 0.0 for two in others)
    return x, y, z


def _transforms(
    shape: tuple[int, ...],
    angles: tuple[float, float, float],
    lowest: float,
    mirror_axes: tuple[int, ...],
    settings: AugmentationSettings,
) -> "Compose":
    from batchgenerators.transforms.abstract_transforms import Compose
    from batchgenerators.transforms.color_transforms import (
        BrightnessMultiplicativeTransform,
        ContrastAugmentationTransform,
        GammaTransform,
    )
    from batchgenerators.transforms.noise_transforms import GaussianBlurTransform, GaussianNoiseTransform
    from batchgenerators.transforms.spatial_transforms import MirrorTransform, SpatialTransform

    about_x, about_y, about_z = angles
    spatial = SpatialTransform(
        shape,
        patch_center_dist_from_border=None,
        do_elastic_deform=False,
        angle_x=(-about_x, about_x),
        angle_y=(-about_y, about_y),
        angle_z=(-about_z, about_z),
        scale=settings.scale,
        border_mode_data="constant",
        border_cval_data=lowest,
        order_data=1,
        border_mode_seg="constant",
        border_cval_seg=0,
        order_seg=0,
        random_crop=False,
        p_rot_per_sample=settings.rotate_chance,
        p_scale_per_sample=settings.scale_chance,
    )
    colour = [
        GaussianNoiseTransform(noise_variance=settings.noise_variance, p_per_sample=settings.noise_chance),
        GaussianBlurTransform(blur_sigma=settings.blur_sigma_voxels, p_per_sample=settings.blur_chance),
        BrightnessMultiplicativeTransform(
            multiplier_range=settings.brightness, p_per_sample=settings.brightness_chance
        ),
        ContrastAugmentationTransform(contrast_range=settings.contrast, p_per_sample=settings.contrast_chance),
        GammaTransform(gamma_range=settings.gamma, retain_stats=True, p_per_sample=settings.gamma_chance),
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
