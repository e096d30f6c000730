"""Cutting boxes out of a volume and putting them back. Importing this module imports torch, through acvl_utils."""

from typing import Any

import numpy as np
from acvl_utils.cropping_and_padding.bounding_boxes import crop_and_pad_nd, get_bbox_from_mask, insert_crop_into_image
from numpy.typing import NDArray

from moe_pipeline.errors import GeometryError
from moe_pipeline.imaging.geometry import Box
from moe_pipeline.imaging.volume import Volume


def crop_volume(volume: Volume, box: Box, *, outside: float) -> Volume:
    """The voxels inside a box, which may reach beyond the volume or miss it; missing voxels become `outside`."""
    geometry = volume.geometry.cropped(box)
    missed = any(stop <= 0 or start >= side for (start, stop), side in zip(box, volume.geometry.shape, strict=True))
    if missed:  # acvl_utils fills such a crop with zeros, whatever the padding value
        return Volume(np.full(geometry.shape, outside, volume.array.dtype), geometry)
    return Volume(crop_and_pad_nd(volume.array, [list(side) for side in box], pad_value=outside), geometry)


def paste_volume(target: NDArray[Any], crop: NDArray[Any], box: Box) -> None:
    """Overwrite the part of `target` (x, y, z) that lies inside `box` with `crop`; what lies beyond is dropped."""
    insert_crop_into_image(target, crop, [list(side) for side in box])


def bounding_box(mask: NDArray[np.bool_]) -> Box:
    """Smallest box that holds all true voxels.

    Raises:
        GeometryError: if the mask is empty.
    """
    if not mask.any():
        raise GeometryError("an empty mask has no bounding box")
    x, y, z = ((int(start), int(stop)) for start, stop in get_bbox_from_mask(mask))
    return x, y, z
