from itertools import permutations, product

import numpy as np
import pytest

from moe_pipeline.errors import GeometryError
from moe_pipeline.imaging.geometry import Geometry
from moe_pipeline.imaging.volume import LoadedImage, Volume, to_canonical, to_grid_orientation

ORIENTATIONS = [
    tuple((np.eye(3)[:, list(order)] * np.array(signs)).ravel())
    for order, signs in product(permutations(range(3)), product((1, -1), repeat=3))
]


@pytest.mark.parametrize("direction", ORIENTATIONS)
def test_round_trip_keeps_values_and_places(direction: tuple[float, ...]) -> None:
    native = Geometry((3, 5, 4), (0.5, 1, 7), (10, -20, 30), direction)
    array = np.arange(60).reshape(3, 5, 4)
    canonical = to_canonical(Volume(array, native))
    (index,) = np.argwhere(canonical.array == array[2, 1, 3])
    np.testing.assert_allclose(canonical.geometry.voxel_to_world(index), native.voxel_to_world([2, 1, 3]))
    back = to_grid_orientation(canonical, native)
    np.testing.assert_array_equal(back.array, array)
    assert back.geometry == native


def test_a_volume_of_another_grid_is_refused() -> None:
    native = Geometry((3, 5, 4), (1, 1, 1))
    out_of_distribution = Volume(np.zeros((3, 5, 4)), Geometry((3, 5, 4), (1, 1, 2)))
    with pytest.raises(GeometryError, match="spacing 1x1x2 against 1x1x1"):
        to_grid_orientation(out_of_distribution, native)


def test_a_volume_must_fill_its_grid() -> None:
    with pytest.raises(GeometryError, match=r"shape \(3, 5, 5\) does not fill its grid of shape \(3, 5, 4\)"):
        Volume(np.zeros((3, 5, 5)), Geometry((3, 5, 4), (1, 1, 1)))


@pytest.mark.parametrize("direction", ORIENTATIONS)
def test_what_is_found_over_an_image_goes_back_to_its_grid(direction: tuple[float, ...]) -> None:
    stored = Volume(np.arange(60).reshape(3, 5, 4), Geometry((3, 5, 4), (0.5, 1, 7), (10, -20, 30), direction))
    image = LoadedImage.of(stored)
    assert image.native == stored.geometry
    assert image.volume.geometry == stored.geometry.canonical()
    back = image.as_stored(image.volume)
    assert back.geometry == stored.geometry
    assert np.array_equal(back.array, stored.array)
