import numpy as np
import pytest

from moe_pipeline.imaging.geometry import Geometry
from moe_pipeline.imaging.placement import place_crop
from moe_pipeline.inference.lattice import CellLattice
from moe_pipeline.records.view import View

VIEW = View(spacing_mm=1.5, size_voxels=16)
IMAGE = Geometry((60, 33, 10), (1.0, 1.5, 2.0), (-30.0, 12.0, 5.0))
LATTICE = CellLattice(IMAGE, VIEW, 8)  # 40 x 33 x 14 voxels of the view, in cells of 2


def test_cells_tile_the_views_voxels_from_the_images_first_corner() -> None:
    assert LATTICE.voxels.shape == (40, 33, 14)
    assert LATTICE.geometry.shape == (20, 17, 7)
    assert LATTICE.geometry.spacing_mm == (3.0, 3.0, 3.0)
    corner = LATTICE.geometry.voxel_to_world([-0.5, -0.5, -0.5])
    assert np.allclose(corner, IMAGE.voxel_to_world([-0.5, -0.5, -0.5]))


def test_a_cubes_cells_are_the_lattices() -> None:
    cube = LATTICE.cube((3, 2, -1))
    assert cube.shape == (16, 16, 16)
    first = cube.voxel_to_world([0.5, 0.5, 0.5])  # middle of its first cell of 2 voxels
    assert np.allclose(LATTICE.geometry.world_to_voxel(first), (3, 2, -1))


def test_windows_stay_with_the_image() -> None:
    assert LATTICE.clamped(np.array([-5, 99, 3])) == (0, 9, -1)  # z: 14 voxels in the middle of 16
    assert LATTICE.highest.tolist() == [12, 9, -1]  # y: 33 voxels end one before the cube does


@pytest.mark.parametrize("point", [(-30.0, 12.0, 5.0), (0.0, 36.0, 14.0), (28.0, 60.0, 22.0)])
def test_crops_lie_where_training_places_them_but_for_a_part_of_a_cell(point: tuple[float, float, float]) -> None:
    found = LATTICE.cube(LATTICE.around(np.array(point)))
    trained = place_crop(IMAGE, VIEW, point)
    assert np.abs(np.subtract(found.origin_mm, trained.origin_mm)).max() <= VIEW.spacing_mm * LATTICE.cell_voxels / 2


def test_points_near_a_cut_face_are_not_shown_well() -> None:
    inside = LATTICE.geometry.voxel_to_world([[10.0, 8.0, 3.0]])
    first, last = LATTICE.starts_showing(inside)
    assert first[0] == 5  # the cell is the sixth of eight: a quarter of the cube lies behind its far side
    assert last[0] == 8  # and here before its near side
    assert LATTICE.holds((3, 4, -1), inside)[0]
    assert not LATTICE.holds((2, 4, -1), inside)[0]


def test_where_the_image_ends_a_point_may_be_close_to_the_face() -> None:
    corner = LATTICE.geometry.voxel_to_world([[0.0, 0.0, 0.0]])
    first, last = LATTICE.starts_showing(corner)
    assert first.tolist() == [0, 0, -1] == last.tolist()


def test_points_too_far_apart_fit_no_window() -> None:
    far = LATTICE.geometry.voxel_to_world([[2.0, 8.0, 3.0], [18.0, 8.0, 3.0]])
    first, last = LATTICE.starts_showing(far)
    assert (first > last).any()
