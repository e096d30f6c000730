"""Where a view's cube goes."""

import numpy as np
from numpy.typing import ArrayLike

from moe_pipeline.imaging.geometry import Box, Geometry
from moe_pipeline.imaging.views import view_grid
from moe_pipeline.records.view import View


def place_crop(image: Geometry, view: View, centre_world_mm: ArrayLike) -> Geometry:
    """Grid of the view's cube around a point, moved so that it shows as much of the image as it can.

    Along an axis where the image is longer than the cube, the cube stays inside the image; where it is shorter, the
    image is centred in the cube. Training and prediction place crops by this same rule.

    Args:
        image: grid of the image, any orientation.
        view: what the encoder sees.
        centre_world_mm: (3,) the point to centre on, RAS world.
    """
    lattice = view_grid(image, view)
    centre = np.floor(lattice.world_to_voxel(np.asarray(centre_world_mm, dtype=float)) + 0.5)  # (3,)
    sides = []
    for index, length in zip(centre, lattice.shape, strict=True):
        start = int(index) - view.size_voxels // 2
        spare = length - view.size_voxels
        start = min(max(start, 0), spare) if spare >= 0 else spare // 2
        sides.append((start, start + view.size_voxels))
    box: Box = (sides[0], sides[1], sides[2])
    return lattice.cropped(box)
