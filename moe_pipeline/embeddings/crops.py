"""Which crops of a case are encoded, and what is in them."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from moe_pipeline.embeddings.augmentation import PLAIN, AugmentationSettings, augment
from moe_pipeline.imaging.crop_grid import CropGrid
from moe_pipeline.imaging.resampling import resample
from moe_pipeline.imaging.views import extract_crop
from moe_pipeline.imaging.volume import Volume
from moe_pipeline.records.foundation import Sides, Spacing, View

JITTER = 0.1
"""Of the crop's edges: clicks are seldom central."""


@dataclass(frozen=True, slots=True)
class CropRecipe:
    """How many crops a case gives, and around what."""

    view: View
    """What the encoder sees."""
    low_res_voxels: Sides
    """Of the decoder, along the edges of the crop: crops lie on them."""
    crops: int
    """Crops per case and copy."""
    class_weights: dict[int, float]
    """Chance of each promptable class to be the one a crop is placed around, up to a factor."""
    mirror_axes: tuple[int, ...]
    """Axes that augmented copies may be mirrored along."""
    augmentation: AugmentationSettings = PLAIN
    """How much they may differ otherwise."""


@dataclass(frozen=True, slots=True)
class Crop:
    """One crop as the encoder sees it, with the classes in it.

    Attributes:
        image: (X, Y, Z) float32, normalised.
        labels: (X, Y, Z), the dataset's label values.
    """

    image: NDArray[np.float32]
    labels: NDArray[np.integer]

    def classes(self, promptable: set[int]) -> tuple[int, ...]:
        """Promptable class ids that have at least one voxel here."""
        return classes_in(self.labels, promptable)

    def augmented(
        self, seed: int, spacing_mm: Spacing, mirror_axes: tuple[int, ...], settings: AugmentationSettings
    ) -> "Crop":
        """A copy that looks different; see `augment`."""
        return Crop(*augment(self.image, self.labels, seed, mirror_axes, settings, spacing_mm))


def classes_in(labels: NDArray[np.integer], promptable: set[int]) -> tuple[int, ...]:
    """Promptable class ids that have at least one voxel in a crop's labels."""
    return tuple(int(value) for value in np.unique(labels) if int(value) in promptable)


def cut_crops(image: Volume, labels: Volume, recipe: CropRecipe, copy_index: int, seed: int) -> list[Crop]:
    """Crops around random voxels of random classes, with jitter.

    Args:
        image: one channel.
        labels: on the same grid.
        recipe: how many, around what.
        copy_index: 0 as it is; higher ones are augmented.
        seed: of this case and copy.

    Returns:
        `recipe.crops` crops; none if the case has no promptable class.
    """
    random = np.random.default_rng(seed)
    places = {c: np.flatnonzero(labels.array == c) for c in recipe.class_weights}
    present = [c for c, voxels in places.items() if voxels.size]
    if not present:
        return []
    weights = np.array([recipe.class_weights[c] for c in present], dtype=float)
    crop_grid = CropGrid(image.geometry, recipe.view, recipe.low_res_voxels)
    crops = []
    for _ in range(recipe.crops):
        chosen = present[random.choice(len(present), p=weights / weights.sum())]
        voxel = np.unravel_index(random.choice(places[chosen]), labels.array.shape)
        centre = labels.geometry.voxel_to_world(np.array([voxel], dtype=float))[0]
        centre = centre + random.uniform(-JITTER, JITTER, 3) * crop_grid.extent_mm
        crop = cut_crop(image, labels, crop_grid, centre)
        if copy_index:
            seed_of_copy = int(random.integers(2**32))
            crop = crop.augmented(seed_of_copy, crop_grid.voxels.spacing_mm, recipe.mirror_axes, recipe.augmentation)
        crops.append(crop)
    return crops


def cut_crop(image: Volume, labels: Volume, crop_grid: CropGrid, centre_mm: NDArray[np.float64]) -> Crop:
    """One crop where prediction would place it.

    Args:
        image: one channel.
        labels: on the same grid.
        crop_grid: of a view over the image.
        centre_mm: (3,) RAS world, to be near the middle.
    """
    grid = crop_grid.cube(crop_grid.around(centre_mm))
    return Crop(
        extract_crop(image, grid, crop_grid.view),
        np.ascontiguousarray(resample(labels, grid, order="nearest", outside=0).array),
    )
