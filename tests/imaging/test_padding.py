import numpy as np
import pytest

from moe_pipeline.imaging.geometry import Geometry
from moe_pipeline.imaging.padding import without_padding
from moe_pipeline.imaging.volume import Volume

GRID = Geometry((20, 18, 16), (1, 1, 2))


def scan(padding: float | None, dtype: str = "int16") -> Volume:
    rng = np.random.default_rng(0)
    array = rng.normal(40, 20, GRID.shape).round().astype(dtype)
    array[:4] = -1000
    array[10, 9, 8] = 1200
    if padding is not None:
        array[:2] = padding
    return Volume(array, GRID)


@pytest.mark.parametrize("dtype", ["int16", "float32"])
@pytest.mark.parametrize("padding", [-1500, -2000, -2048, -3024, -32768])
def test_padding_of_ct_becomes_air(padding: int, dtype: str) -> None:
    padded = scan(padding, dtype)
    found = without_padding(padded)
    np.testing.assert_array_equal(found.array, scan(-1000, dtype).array)
    assert found.array.dtype == dtype
    assert padded.array.min() == padding


@pytest.mark.parametrize("padding", [None, -1000, -1024, -1099])
def test_other_volumes_stay_as_they_are(padding: int | None) -> None:
    volume = scan(padding)
    assert without_padding(volume) is volume


def test_negative_images_that_are_no_ct_stay() -> None:
    array = np.random.default_rng(1).normal(-5000, 800, GRID.shape).astype(np.float32)
    volume = Volume(array, GRID)
    assert without_padding(volume) is volume
    constant = Volume(np.full(GRID.shape, -3024, np.int16), GRID)
    assert without_padding(constant) is constant
