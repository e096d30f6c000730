import itertools

import numpy as np
import pytest

from moe_pipeline.imaging.crop_grid import CropGrid
from moe_pipeline.imaging.geometry import Geometry
from moe_pipeline.inference.search.heatmap import HeatGrid, hottest
from moe_pipeline.records.foundation import View

VIEW = View(spacing_mm=2.0, size_voxels=32)
TILTED = (0.0, 1.0, 0.0, 0.8, 0.0, -0.6, 0.6, 0.0, 0.8)


def grid_over(shape: tuple[int, int, int], side: int = 8) -> HeatGrid:
    image = Geometry(shape, (1.0, 1.5, 2.0), (5.0, -3.0, 7.0)).canonical()
    return HeatGrid(CropGrid(image, VIEW, (16,) * 3), (side,) * 3)


@pytest.mark.parametrize("shape", [(20, 20, 20), (64, 43, 32), (65, 44, 33), (200, 150, 90), (301, 40, 10)])
def test_the_windows_overlap_and_cover_the_image(shape: tuple[int, int, int]) -> None:
    grid = grid_over(shape)
    windows = np.array(grid.windows())
    assert not ((windows - grid.crop_grid.lowest) % grid.steps[0]).any()  # whole low-resolution voxels of heat
    for axis in range(3):
        starts = np.unique(windows[:, axis])
        assert starts[0] <= 0
        assert starts[-1] + 16 >= grid.crop_grid.geometry.shape[axis]
        assert (np.diff(starts) <= 12).all()  # a quarter of 16 low-resolution voxels overlaps
    assert len(windows) == np.prod([len(np.unique(windows[:, axis])) for axis in range(3)])


def test_an_image_that_fits_is_seen_once() -> None:
    assert len(grid_over((60, 40, 30)).windows()) == 1


def test_what_windows_agree_on_is_found_where_it_is() -> None:
    grid = grid_over((160, 100, 80))
    place_mm = grid.crop_grid.geometry.voxel_to_world(np.array([30.5, 26.5, 20.5]))
    heats = {}
    for start in grid.windows():
        heat = np.zeros((8, 8, 8), np.float32)
        voxel = np.rint(((np.array([30.5, 26.5, 20.5]) + 0.5) - np.array(start)) / grid.steps[0] - 0.5).astype(int)
        if ((voxel >= 0) & (voxel < 8)).all():
            heat[tuple(voxel)] = 1.0
        heats[start] = heat
    assert sum(heat.any() for heat in heats.values()) > 1
    (voxel,) = hottest(grid.combined(heats), 1)
    assert np.linalg.norm(grid.place_mm(voxel, grid.crop_grid.lowest) - place_mm) <= 2 * grid.steps[0] * 4.0 / 2


def test_a_voxel_of_heat_lies_in_the_middle_of_its_voxels() -> None:
    grid = grid_over((60, 60, 60))  # heat low-resolution voxels of 4 voxels of 2 mm, from the crop grid's first corner
    corner = grid.crop_grid.voxels.voxel_to_world(np.array([-0.5, -0.5, -0.5]))
    expected = corner + np.array([4.0, 4.0, 4.0])
    assert np.allclose(grid.place_mm(np.zeros(3), (0, 0, 0)), expected)


def test_the_hottest_parts_come_first() -> None:
    heat = np.zeros((20, 20, 20), np.float32)
    for value, corner in ((0.2, (2, 2, 2)), (0.5, (12, 12, 12)), (0.01, (2, 15, 2))):
        for step in itertools.product(range(2), repeat=3):
            heat[tuple(np.array(corner) + step)] = value / 8
    places = [place.tolist() for place in hottest(heat, 5)]
    assert places == [[12.5, 12.5, 12.5], [2.5, 2.5, 2.5]]  # what is barely warm is no object
    assert len(list(hottest(heat, 1))) == 1
