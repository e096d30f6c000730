import numpy as np
import pytest

from moe_pipeline.imaging.geometry import Geometry
from moe_pipeline.imaging.placement import place_crop
from moe_pipeline.imaging.views import view_grid
from moe_pipeline.records.view import View

VIEW = View(spacing_mm=2.0, size_voxels=16)
IMAGE = Geometry((50, 40, 10), (2, 2, 2), (100, -30, 7))  # longer than the cube along x and y, shorter along z


@pytest.mark.parametrize(
    ("voxel", "start"),
    [
        ([25, 20, 5], [17, 12, -3]),  # in the middle; along z the image is centred in the cube
        ([0, 39, 9], [0, 24, -3]),  # pushed back inside
    ],
)
def test_a_cube_shows_as_much_of_the_image_as_it_can(voxel: list[int], start: list[int]) -> None:
    grid = place_crop(IMAGE, VIEW, IMAGE.voxel_to_world(voxel))
    assert grid.shape == (16, 16, 16)
    np.testing.assert_allclose(grid.origin_mm, IMAGE.voxel_to_world(start))


def test_cubes_lie_on_the_lattice_of_the_view() -> None:
    image = Geometry((40, 30, 20), (0.8, 0.9, 3), (5, -7, 11), (-1.0, 0, 0, 0, 1, 0, 0, 0, 1))
    grid = place_crop(image, View(spacing_mm=1.5, size_voxels=8), image.voxel_to_world([11, 22, 7]))
    offset = view_grid(image, View(spacing_mm=1.5, size_voxels=8)).world_to_voxel(grid.origin_mm)
    np.testing.assert_allclose(offset, offset.round(), atol=1e-9)
    np.testing.assert_allclose(grid.matrix, np.eye(3))
