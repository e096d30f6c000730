"""Prompts in patient coordinates, wherever they come from."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import product

import numpy as np
from numpy.typing import ArrayLike, NDArray

from moe_pipeline.errors import PromptError
from moe_pipeline.imaging.crop_grid import CropGrid, WindowIndex
from moe_pipeline.imaging.geometry import Geometry
from moe_pipeline.imaging.resampling import resample
from moe_pipeline.imaging.volume import Volume
from moe_pipeline.records.prompts import ObjectPrompt, Space


def seed_of(case: str, class_id: int, seed: int) -> int:
    """A seed of its own for each case and class."""
    return int.from_bytes(hashlib.sha256(f"{case}/{class_id}/{seed}".encode()).digest()[:8], "big")


INSIDE, OUTSIDE = 1.0, -1.0
"""Logits of a low-resolution voxel wholly inside and wholly outside. With nano no other pair tried did better."""


@dataclass(frozen=True, slots=True)
class DensePrompt:
    """One class of a label map.

    Attributes:
        labels: on any grid.
        class_id: the class.
    """

    labels: Volume
    class_id: int

    def logits(self, crop_grid: CropGrid, start: WindowIndex) -> NDArray[np.float32]:
        """What a window's decoder would have said, (*low): by the part of each voxel that the mask fills."""
        labels = resample(self.labels, crop_grid.cube(start), order="nearest", outside=0).array
        strides = crop_grid.low_res_stride.tolist()
        blocks = [n for pair in zip(crop_grid.window, strides, strict=True) for n in pair]
        filled = (labels == self.class_id).reshape(blocks).mean(axis=(1, 3, 5))  # (*low)
        return np.asarray(OUTSIDE + (INSIDE - OUTSIDE) * filled, dtype=np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class BoxPrompt:
    """A box around an object, for foundations that take boxes.

    Attributes:
        corners_mm: (8, 3) RAS world, in the middle of the outermost voxels.
        centre_mm: (3,) RAS world, the click that stands for it elsewhere; None where people clicked inside the object.
    """

    corners_mm: NDArray[np.float64]
    centre_mm: NDArray[np.float64] | None

    def is_like(self, other: "BoxPrompt") -> bool:
        """Whether both say the same."""
        same_centre = (self.centre_mm is None) == (other.centre_mm is None)
        return same_centre and np.array_equal(self.corners_mm, other.corners_mm)

    def without_centre(
        self, places_mm: NDArray[np.float64], labels: NDArray[np.int64]
    ) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Clicks (n, 3) with their labels (n,), but for the one that stands for the box."""
        if self.centre_mm is None:
            return places_mm, labels
        said = (places_mm != self.centre_mm).any(axis=1)
        return places_mm[said], labels[said]


LPS_TO_RAS = np.array([-1.0, -1.0, 1.0])

_AROUND = 1.0  # voxels or mm; how far a click may lie beyond the sides of a box, which are drawn by hand
_EDGE = 1e-6  # voxels; how far rounding may carry a click on the image's very border


def _nothing() -> NDArray[np.float64]:
    return np.empty((0, 3))


@dataclass(frozen=True, slots=True)
class Prompt:
    """Clicks on one object.

    Attributes:
        class_id: value in the label map.
        class_name: for the tables.
        clicks_mm: (n, 3) RAS world.
        labels: (n,) 1 inside, 0 outside.
        source: where the clicks come from.
        box_mm: (8, 3) RAS world, the corners of a box that the first crop shall show; (0, 3) where there is none.
        dense: an earlier mask of the object, which the decoders begin with.
        box: the same box as a prompt of its own; None where it is flat, which says nothing of the other slices.
        text: what is wanted, as the foundation's text encoder gives it, (1, C); None without.
        own_crop: whether its first crop is chosen for it alone.
    """

    class_id: int
    class_name: str
    clicks_mm: NDArray[np.float64]
    labels: NDArray[np.int64]
    source: str
    box_mm: NDArray[np.float64] = field(default_factory=_nothing)
    dense: DensePrompt | None = None
    box: BoxPrompt | None = None
    text: NDArray[np.float32] | None = None
    own_crop: bool = False


def objects_in_world(objects: Sequence[ObjectPrompt], space: Space, native: Geometry, where: str) -> list[Prompt]:
    """Objects of one case, brought to RAS world coordinates.

    A box becomes its corners, and where no click lies inside its object, its centre becomes one: foundations that take
    no boxes see that click.

    Args:
        objects: of the case.
        space: of their points.
        native: grid of the image as stored.
        where: case and file, for messages.

    Raises:
        PromptError: if a click or a box lies outside the image, or a box does not hold the clicks inside its object.
    """
    return [_in_world(prompt, space, native, where) for prompt in objects]


def to_world(points: ArrayLike, space: Space, native: Geometry) -> NDArray[np.float64]:
    """RAS world positions in mm, (n, 3), of points (n, 3) in one of our spaces."""
    places = np.asarray(points, dtype=float).reshape(-1, 3)
    if space == "world_lps_mm":
        return np.asarray(places * LPS_TO_RAS)
    return native.voxel_to_world(places if space == "voxel_xyz" else places[:, ::-1])


def from_world(points_mm: NDArray[np.float64], space: Space, native: Geometry) -> NDArray[np.float64]:
    """The inverse of `to_world`."""
    if space == "world_lps_mm":
        return np.asarray(points_mm * LPS_TO_RAS)
    voxels = native.world_to_voxel(points_mm)
    return voxels if space == "voxel_xyz" else voxels[:, ::-1]


def corners(one: Sequence[float], other: Sequence[float]) -> NDArray[np.float64]:
    """The eight corners, (8, 3), of the box between two opposite ones."""
    return np.array(list(product(*zip(one, other, strict=True))), dtype=float)


def _in_world(prompt: ObjectPrompt, space: Space, native: Geometry, where: str) -> Prompt:
    points, labels = list(prompt.points), list(prompt.labels)
    box = _nothing()
    if prompt.box is not None:
        box = to_world(corners(*prompt.box), space, native)  # (8, 3)
        if 1 not in labels:
            x, y, z = np.mean(prompt.box, axis=0).tolist()
            points, labels = [(x, y, z), *points], [1, *labels]
    world = to_world(points, space, native)
    voxels = native.world_to_voxel(world)
    if prompt.box is not None:
        _check_box(prompt, space, native.world_to_voxel(box), native, where)
    beyond = ((voxels < -0.5 - _EDGE) | (voxels > np.asarray(native.shape) - 0.5 + _EDGE)).any(axis=1)
    if beyond.any():
        place = tuple(points[int(beyond.argmax())])
        raise PromptError(
            f"{where}: click {place} ({space}) lies outside the image, at voxel "
            f"{tuple(voxels[beyond.argmax()].round(1).tolist())} of {native.shape}; check the file's space"
        )
    whole = None
    if prompt.box is not None and all(low != high for low, high in zip(*prompt.box, strict=True)):
        whole = BoxPrompt(box, None if 1 in prompt.labels else world[0])
    return Prompt(
        prompt.class_id,
        prompt.class_name,
        world,
        np.asarray(labels),
        "prompts",
        box,
        box=whole,
        own_crop=prompt.own_crop,
    )


def _check_box(prompt: ObjectPrompt, space: Space, box: NDArray[np.float64], native: Geometry, where: str) -> None:
    """Refuse a box (8, 3), in voxels, that has nothing to do with the image or with its object's clicks."""
    assert prompt.box is not None
    here = f"{where}: class {prompt.class_id} {prompt.class_name}".rstrip()
    if (box.max(axis=0) < -0.5).any() or (box.min(axis=0) > np.asarray(native.shape) - 0.5).any():
        found = f"from voxel {tuple(box.min(axis=0).round(1).tolist())} to {tuple(box.max(axis=0).round(1).tolist())}"
        raise PromptError(
            f"{here}: its box lies outside the image, {found} of {native.shape}; check the file's space ({space})"
        )
    low, high = np.min(prompt.box, axis=0), np.max(prompt.box, axis=0)
    extent = high > low  # a rectangle on one slice says nothing about the other slices
    for place, inside in zip(prompt.points, prompt.labels, strict=True):
        away = (np.asarray(place) < low - _AROUND) | (np.asarray(place) > high + _AROUND)
        if inside and (away & extent).any():
            raise PromptError(
                f"{here}: the click {place} lies inside the object, but not in its box, which reaches from "
                f"{tuple(low.tolist())} to {tuple(high.tolist())} ({space}); number two objects, or mend one of them"
            )
