import numpy as np
import pytest

from moe_pipeline.imaging.crop_grid import CropGrid
from moe_pipeline.imaging.geometry import Geometry
from moe_pipeline.imaging.views import view_grid
from moe_pipeline.records.foundation import View

VIEW = View(spacing_mm=1.5, size_voxels=16)
IMAGE = Geometry((60, 33, 10), (1.0, 1.5, 2.0), (-30.0, 12.0, 5.0))
CROP_GRID = CropGrid(IMAGE, VIEW, (8,) * 3)  # 40 x 33 x 14 voxels of the view, in low-resolution voxels of 2


def test_low_res_voxels_tile_the_views_voxels_from_the_images_first_corner() -> None:
    assert CROP_GRID.voxels.shape == (40, 33, 14)
    assert CROP_GRID.geometry.shape == (20, 17, 7)
    assert CROP_GRID.geometry.spacing_mm == (3.0, 3.0, 3.0)
    corner = CROP_GRID.geometry.voxel_to_world([-0.5, -0.5, -0.5])
    assert np.allclose(corner, IMAGE.voxel_to_world([-0.5, -0.5, -0.5]))


def test_a_cubes_voxels_are_the_crop_grids() -> None:
    cube = CROP_GRID.cube((3, 2, -1))
    assert cube.shape == (16, 16, 16)
    first = cube.voxel_to_world([0.5, 0.5, 0.5])  # middle of its first low-resolution voxel of 2 voxels
    assert np.allclose(CROP_GRID.geometry.world_to_voxel(first), (3, 2, -1))


def test_windows_stay_with_the_image() -> None:
    assert CROP_GRID.clamped(np.array([-5, 99, 3])) == (0, 9, -1)  # z: 14 voxels in the middle of 16
    assert CROP_GRID.highest.tolist() == [12, 9, -1]  # y: 33 voxels end one before the cube does


@pytest.mark.parametrize(
    ("voxel", "start"),
    [
        ([25, 20, 5], [9, 6, -2]),  # in the middle; along z the image stands in the middle of the cube, on whole voxels
        ([0, 39, 9], [0, 12, -2]),  # pushed back inside
    ],
)
def test_a_cube_shows_as_much_of_the_image_as_it_can(voxel: list[int], start: list[int]) -> None:
    image = Geometry((50, 40, 10), (2, 2, 2), (100, -30, 7))  # longer than the cube along x and y, shorter along z
    crop_grid = CropGrid(image, View(spacing_mm=2.0, size_voxels=16), (8,) * 3)
    assert list(crop_grid.around(image.voxel_to_world(voxel))) == start


@pytest.mark.parametrize("direction", [(1.0, 0, 0, 0, 1, 0, 0, 0, 1), (-1.0, 0, 0, 0, 0, 1, 0, 1, 0)])
def test_cubes_lie_on_the_views_voxels_in_any_orientation(direction: tuple[float, ...]) -> None:
    image, view = Geometry((40, 30, 20), (0.8, 0.9, 3), (5, -7, 11), direction), View(spacing_mm=1.5, size_voxels=8)
    crop_grid = CropGrid(image, view, (4,) * 3)
    grid = crop_grid.cube(crop_grid.around(image.voxel_to_world([11, 22, 7])))
    offset = view_grid(image, view).world_to_voxel(grid.origin_mm)
    np.testing.assert_allclose(offset, offset.round(), atol=1e-9)
    np.testing.assert_allclose(grid.matrix, np.eye(3))


def test_points_near_a_cut_face_are_not_shown_well() -> None:
    inside = CROP_GRID.geometry.voxel_to_world([[10.0, 8.0, 3.0]])
    first, last = CROP_GRID.starts_showing(inside)
    assert first[0] == 5  # the voxel is the sixth of eight: a quarter of the cube lies behind its far side
    assert last[0] == 8  # and here before its near side
    assert CROP_GRID.holds((3, 4, -1), inside)[0]
    assert not CROP_GRID.holds((2, 4, -1), inside)[0]


def test_where_the_image_ends_a_point_may_be_close_to_the_face() -> None:
    corner = CROP_GRID.geometry.voxel_to_world([[0.0, 0.0, 0.0]])
    first, last = CROP_GRID.starts_showing(corner)
    assert first.tolist() == [0, 0, -1] == last.tolist()


def test_points_too_far_apart_fit_no_window() -> None:
    far = CROP_GRID.geometry.voxel_to_world([[2.0, 8.0, 3.0], [18.0, 8.0, 3.0]])
    first, last = CROP_GRID.starts_showing(far)
    assert (first > last).any()
