from dataclasses import replace

import numpy as np
import pytest

from moe_pipeline.imaging.geometry import Geometry
from moe_pipeline.imaging.resampling import inside, resample, shared_voxel_grid
from moe_pipeline.imaging.volume import Volume

TILTED = (0.8, -0.6, 0.0, 0.6, 0.8, 0.0, 0.0, 0.0, 1.0)
SOURCE = Geometry((9, 12, 7), (1.0, 2.0, 3.0), (-5.0, 40.0, 8.0), TILTED)


def ramp(geometry: Geometry) -> np.ndarray:
    """3 + x - 2y + 0.5z of the world position of every voxel."""
    world = geometry.voxel_to_world(np.moveaxis(np.indices(geometry.shape), 0, -1).reshape(-1, 3))
    return (3 + world @ np.array([1, -2, 0.5])).reshape(geometry.shape)


@pytest.mark.parametrize(
    "grid",
    [
        SOURCE.resampled(1.5).cropped(((2, 5), (3, 12), (2, 12))),
        Geometry((4, 3, 5), (0.7, 0.9, 1.1), (-12.0, 55.0, 12.0)),
    ],
    ids=["parallel", "rotated"],
)
def test_linear_ramps_are_exact(grid: Geometry) -> None:
    assert inside(SOURCE, grid).all()
    sampled = resample(Volume(ramp(SOURCE), SOURCE), grid, order="linear", outside=-1)
    assert sampled.array.dtype == np.float32
    np.testing.assert_allclose(sampled.array, ramp(grid), atol=2e-5)


def test_same_grid_is_the_identity() -> None:
    labels = np.random.default_rng(0).integers(0, 300, SOURCE.shape).astype(np.uint16)
    for order in ("linear", "nearest"):
        same = resample(Volume(labels, SOURCE), SOURCE, order=order, outside=9)
        np.testing.assert_array_equal(same.array, labels)


def test_crop_grids_are_shared_only_if_all_voxels_coincide() -> None:
    assert shared_voxel_grid(SOURCE, SOURCE.cropped(((-3, 4), (0, 1), (2, 9)))) == ((-3, 4), (0, 1), (2, 9))
    assert shared_voxel_grid(SOURCE, SOURCE.resampled(1)) is None
    assert shared_voxel_grid(SOURCE, replace(SOURCE, origin_mm=(-4.5, 40.0, 8.0))) is None
    assert shared_voxel_grid(SOURCE, replace(SOURCE, spacing_mm=(1.001, 2.0, 3.0))) is None


def test_a_crop_equals_slicing_and_is_filled_outside() -> None:
    labels = np.random.default_rng(0).integers(0, 5, SOURCE.shape).astype(np.uint8)
    crop = resample(Volume(labels, SOURCE), SOURCE.cropped(((-2, 4), (3, 20), (1, 5))), order="nearest", outside=7)
    np.testing.assert_array_equal(crop.array[2:, :9], labels[:4, 3:, 1:5])
    assert (crop.array[:2] == 7).all()
    assert (crop.array[:, 9:] == 7).all()
    assert crop.array.dtype == np.uint8


def test_nothing_in_common_gives_the_outside_value() -> None:
    far = Geometry((2, 3, 4), (1, 1, 1), (900, 0, 0))
    sampled = resample(Volume(ramp(SOURCE), SOURCE), far, order="linear", outside=-4)
    np.testing.assert_array_equal(sampled.array, np.full((2, 3, 4), -4, np.float32))


def test_masks_stay_boolean() -> None:
    mask = resample(Volume(np.ones(SOURCE.shape, bool), SOURCE), SOURCE.resampled(2), order="nearest", outside=0)
    assert mask.array.dtype == np.bool_


def test_edge_voxels_reach_to_their_borders() -> None:
    bar = Geometry((2, 1, 1), (2, 1, 1))
    fine = Geometry((6, 1, 1), (1, 1, 1), (-1.5, 0, 0))  # centres at -1.5, -0.5, ... 3.5; the image reaches -1 to 3
    assert inside(bar, fine).ravel().tolist() == [False, True, True, True, True, False]
    sampled = resample(Volume(np.array([[[4.0]], [[8.0]]]), bar), fine, order="linear", outside=0)
    np.testing.assert_allclose(sampled.array.ravel(), [0, 4, 5, 7, 8, 0])


@pytest.mark.parametrize("grid", [SOURCE.resampled(2.2), Geometry((20, 20, 20), (2, 2, 2), (-20.123, 30.456, 0.789))])
def test_inside_agrees_with_world_positions(grid: Geometry) -> None:
    points = np.moveaxis(np.indices(grid.shape), 0, -1).reshape(-1, 3)
    index = SOURCE.world_to_voxel(grid.voxel_to_world(points))
    expected = ((index >= -0.5) & (index < np.array(SOURCE.shape) - 0.5)).all(1).reshape(grid.shape)
    within = inside(SOURCE, grid)
    assert within.any()
    assert not within.all()
    np.testing.assert_array_equal(within, expected)
