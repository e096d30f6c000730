"""Cutting boxes out of a volume. Importing this module imports torch, through acvl_utils."""

import numpy as np
from acvl_utils.cropping_and_padding.bounding_boxes import crop_and_pad_nd

from moe_pipeline.imaging.geometry import Box
from moe_pipeline.imaging.volume import Volume


def crop_volume(volume: Volume, box: Box, *, outside: float) -> Volume:
    """The voxels inside a box, which may reach beyond the volume or miss it; missing voxels become `outside`."""
    geometry = volume.geometry.cropped(box)
    missed = any(stop <= 0 or start >= side for (start, stop), side in zip(box, volume.geometry.shape, strict=True))
    if missed:  # acvl_utils fills such a crop with zeros, whatever the padding value
        return Volume(np.full(geometry.shape, outside, volume.array.dtype), geometry)
    return Volume(crop_and_pad_nd(volume.array, [list(side) for side in box], pad_value=outside), geometry)
