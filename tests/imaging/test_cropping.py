import numpy as np
import pytest

from moe_pipeline.imaging.cropping import crop_volume
from moe_pipeline.imaging.geometry import Box, Geometry
from moe_pipeline.imaging.volume import Volume

VOLUME = Volume(np.arange(60, dtype=np.float32).reshape(3, 4, 5), Geometry((3, 4, 5), (1, 2, 3), (7, 8, 9)))


def test_crop_inside_is_slicing() -> None:
    crop = crop_volume(VOLUME, ((1, 3), (0, 2), (2, 5)), outside=-1)
    np.testing.assert_array_equal(crop.array, VOLUME.array[1:3, 0:2, 2:5])
    np.testing.assert_allclose(crop.geometry.origin_mm, VOLUME.geometry.voxel_to_world([1, 0, 2]))


@pytest.mark.parametrize("box", [((-2, 2), (0, 4), (0, 5)), ((5, 9), (0, 4), (0, 5)), ((-4, 0), (0, 4), (0, 5))])
def test_crop_beyond_is_filled_even_if_it_misses_the_volume(box: Box) -> None:
    crop = crop_volume(VOLUME, box, outside=-1)
    assert crop.array.shape == (4, 4, 5)
    kept = range(max(box[0][0], 0), min(box[0][1], 3))
    assert np.count_nonzero(crop.array == -1) == (4 - len(kept)) * 20
