import numpy as np
import pytest

from moe_pipeline.imaging.checks.shear import nearest_grid


def test_a_right_angled_affine_is_its_own_nearest() -> None:
    affine = np.array([[0, -2.0, 0, 5], [1, 0, 0, -3], [0, 0, 4, 7], [0, 0, 0, 1]])
    grid = nearest_grid(affine, (5, 6, 7))
    np.testing.assert_allclose(grid.affine, affine, atol=1e-12)


def test_shear_is_shared_between_the_axes_and_the_centre_stays() -> None:
    affine = np.eye(4)
    affine[0, 1] = 0.02  # the second axis leans towards the first
    grid = nearest_grid(affine, (11, 11, 11))
    np.testing.assert_allclose(grid.voxel_to_world((5, 5, 5)), (affine @ (5, 5, 5, 1))[:3], atol=1e-9)
    np.testing.assert_allclose(grid.matrix.T @ grid.matrix, np.eye(3), atol=1e-12)
    assert grid.matrix[0, 1] == pytest.approx(0.01, rel=1e-3)
    assert grid.matrix[1, 0] == pytest.approx(-0.01, rel=1e-3)


def test_a_mirrored_affine_stays_mirrored() -> None:
    affine = np.diag([-1.0, 1, 1, 1])
    assert np.linalg.det(nearest_grid(affine, (3, 3, 3)).matrix) == pytest.approx(-1)
