from dataclasses import FrozenInstanceError
from itertools import permutations, product
from typing import Any

import numpy as np
import pytest

from moe_pipeline.errors import GeometryError
from moe_pipeline.imaging.geometry import Geometry


def rotation(degrees: float, axis: int) -> np.ndarray:
    angle = np.deg2rad(degrees)
    matrix = np.eye(3)
    first, second = (other for other in range(3) if other != axis)
    matrix[[first, first, second, second], [first, second, first, second]] = (
        np.cos(angle),
        -np.sin(angle),
        np.sin(angle),
        np.cos(angle),
    )
    return matrix


ORIENTATIONS = [
    np.eye(3)[:, list(order)] * np.array(signs)
    for order, signs in product(permutations(range(3)), product((1, -1), repeat=3))
]
OBLIQUE = rotation(17, 0) @ rotation(-9, 1) @ rotation(5, 2)


def grid(direction: np.ndarray, shape: tuple[int, int, int] = (5, 7, 4)) -> Geometry:
    return Geometry(shape, (0.7, 1.3, 4.5), (-31.5, 12.25, 80.0), tuple(direction.ravel()))


@pytest.mark.parametrize("direction", ORIENTATIONS)
@pytest.mark.parametrize("tilt", [np.eye(3), OBLIQUE], ids=["upright", "oblique"])
def test_canonical_runs_closest_to_ras_in_every_orientation(direction: np.ndarray, tilt: np.ndarray) -> None:
    native = grid(tilt @ direction)
    canonical = native.canonical()
    np.testing.assert_allclose(canonical.matrix, tilt, atol=1e-12)
    assert sorted(canonical.shape) == sorted(native.shape)
    assert canonical.canonical() == canonical
    corners = np.array(list(product(*((0, side - 1) for side in native.shape))))
    canonical_corners = np.array(list(product(*((0, side - 1) for side in canonical.shape))))
    there = {tuple(point) for point in native.voxel_to_world(corners).round(6)}
    assert there == {tuple(point) for point in canonical.voxel_to_world(canonical_corners).round(6)}


def test_orientation_names_the_way_of_each_index_axis() -> None:
    assert grid(np.eye(3)).orientation == "RAS"
    assert grid(OBLIQUE @ np.diag([-1, -1, 1])).orientation == "LPS"
    assert grid(np.array([[0, 0, -1], [0, 1, 0], [-1, 0, 0]])).orientation == "IAL"
    assert {grid(direction).canonical().orientation for direction in ORIENTATIONS} == {"RAS"}


def test_affine_agrees_with_voxel_to_world_and_is_a_copy() -> None:
    native = grid(OBLIQUE)
    point = np.array([1.5, -2.0, 3.25])
    np.testing.assert_allclose(native.voxel_to_world(point), (native.affine @ [*point, 1])[:3])
    np.testing.assert_allclose(native.world_to_voxel(native.voxel_to_world(point)), point)
    native.affine[:] = 0
    assert native.affine[3, 3] == 1


def test_world_of_known_voxels() -> None:
    upright = Geometry((4, 4, 4), (1, 2, 3), (10, 20, 30))
    np.testing.assert_array_equal(upright.voxel_to_world([[0, 0, 0], [1, 1, 1]]), [[10, 20, 30], [11, 22, 33]])


def test_cropped_keeps_the_crop_grid_and_may_reach_beyond() -> None:
    native = grid(OBLIQUE)
    crop = native.cropped(((-2, 3), (1, 9), (0, 4)))
    assert crop.shape == (5, 8, 4)
    np.testing.assert_allclose(crop.voxel_to_world([2, 0, 1]), native.voxel_to_world([0, 1, 1]))
    with pytest.raises(GeometryError, match="three positive sides"):
        native.cropped(((0, 0), (0, 1), (0, 1)))


def test_resampled_keeps_the_corner_of_the_field_of_view() -> None:
    native = grid(OBLIQUE, (10, 10, 10))
    coarse = native.resampled(1.5)
    assert coarse.shape == (5, 9, 30)  # 7, 13 and 45 mm, rounded up
    np.testing.assert_allclose(coarse.voxel_to_world([-0.5] * 3), native.voxel_to_world([-0.5] * 3))
    assert coarse.direction == native.direction


def test_resampled_does_not_round_up_a_whole_number() -> None:
    assert Geometry((36, 33, 3), (1, 1, 1)).resampled(1.5).shape == (24, 22, 2)
    assert Geometry((10, 10, 10), (0.3, 0.3, 0.3)).resampled(0.1).shape == (30, 30, 30)


def test_resampled_to_its_own_spacing_is_itself() -> None:
    native = grid(OBLIQUE)
    assert not native.resampled(native.spacing_mm).differences(native, 1e-9)


def test_differences_are_readable() -> None:
    one = Geometry((2, 3, 4), (1, 1, 1))
    assert one.differences(one) == []
    assert one.differences(Geometry((2, 3, 5), (1.5, 1.5, 1.5))) == [
        "shape 2x3x4 against 2x3x5",
        "spacing 1x1x1 against 1.5x1.5x1.5",
    ]
    assert one.differences(Geometry((2, 3, 4), (1, 1, 1), (0, 0, 0.5))) == ["origin 0, 0, 0 against 0, 0, 0.5"]
    assert "direction" in one.differences(Geometry((2, 3, 4), (1, 1, 1), direction=tuple(OBLIQUE.ravel())))[0]
    assert one.differences(Geometry((2, 3, 4), (1, 1, 1), (0, 0, 0.5)), tolerance_mm=0.6) == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"shape": (0, 1, 1)}, "three positive sides, found"),
        ({"spacing_mm": (1, -1, 1)}, "three positive numbers in mm, found 1x-1x1"),
        ({"spacing_mm": (1, float("nan"), 1)}, "three positive numbers"),
        ({"origin_mm": (float("inf"), 0, 0)}, "three finite numbers"),
        ({"direction": (1, 0.3, 0, 0, 1, 0, 0, 0, 1)}, "orthogonal unit vectors"),
        ({"direction": (1, 0, 0, 0, 2, 0, 0, 0, 1)}, "orthogonal unit vectors"),
    ],
)
def test_invalid_grids_are_rejected(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(GeometryError, match=message):
        Geometry(**{"shape": (1, 1, 1), "spacing_mm": (1, 1, 1), **changes})


def test_geometry_is_frozen_and_hashable() -> None:
    native = grid(np.eye(3))
    assert len({native, grid(np.eye(3))}) == 1
    with pytest.raises(FrozenInstanceError):
        native.shape = (1, 1, 1)  # type: ignore[misc]
