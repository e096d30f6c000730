import numpy as np
import pytest

from moe_pipeline.imaging.checks.statistics import case_numbers, content_sha256
from moe_pipeline.imaging.geometry import Geometry
from moe_pipeline.imaging.volume import Volume

GRID = Geometry((4, 3, 5), (1.0, 2.0, 10.0), direction=(0, 0, 1, 1, 0, 0, 0, 1, 0))  # x runs A, y runs S, z runs R


def test_numbers_of_a_case_by_hand() -> None:
    image = np.arange(60, dtype=np.float32).reshape(GRID.shape)
    label = np.zeros(GRID.shape, np.uint8)
    label[:2, 0, 0], label[0, 1, :] = 1, 4
    numbers = case_numbers([Volume(image, GRID)], Volume(label, GRID), {0: 53, 1: 2, 4: 5})
    assert numbers is not None
    assert numbers.spacing_mm == (10, 1, 2)
    assert numbers.extent_mm == (50, 4, 6)
    assert numbers.volumes_ml == {1: pytest.approx(0.04), 4: pytest.approx(0.1)}
    assert numbers.channels[0].median == 29.5
    assert numbers.channels[0].spread == pytest.approx(0.98 * 59)
    assert case_numbers([], None, {}) is None


def test_the_hash_is_that_of_the_voxels_in_whatever_order_they_lie_in_memory() -> None:
    array = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    assert content_sha256(array) == content_sha256(np.asfortranarray(array))
    assert content_sha256(array) != content_sha256(array.reshape(4, 3, 2))
    assert content_sha256(array) != content_sha256(array + 1)
