import numpy as np
from scipy import ndimage

from moe_pipeline.prompts.thickest import deepest, deepest_of_parts, depth_mm


def test_depth_is_in_mm_and_faces_are_borders() -> None:
    mask = np.ones((3, 5, 1), bool)
    assert depth_mm(mask, (1.0, 1.0, 10.0))[:, :, 0].tolist() == [[1] * 5, [1, 2, 2, 2, 1], [1] * 5]


def test_the_deepest_voxel_of_a_flat_object_is_in_its_middle() -> None:
    assert deepest(np.ones((3, 9, 5), bool), (1.0, 1.0, 1.0)).tolist() == [[1, 4, 2]]
    assert deepest(np.ones((3, 3, 5), bool), (0.5, 0.5, 9.0)).tolist() == [[1, 1, 2]]


def test_further_clicks_keep_away_from_the_first() -> None:
    found = deepest(np.ones((41, 7, 7), bool), (1.0, 1.0, 1.0), 3)
    assert found[0].tolist() == [20, 3, 3]
    assert np.abs(np.diff(found[:, 0])).min() >= 4
    assert len(deepest(np.ones((1, 2, 1), bool), (1.0, 1.0, 1.0), 9)) == 2


def test_always_inside_whatever_the_shape() -> None:
    random = np.random.default_rng(0)
    for _ in range(20):
        mask = ndimage.gaussian_filter(random.normal(size=(12, 9, 7)), 1) > 0.1
        for voxel in deepest(mask, (0.7, 1.1, 3.0), 4):
            assert mask[tuple(voxel)]


def test_each_large_part_has_its_click() -> None:
    mask = np.zeros((20, 5, 5), bool)
    mask[0:3] = mask[10:20] = True
    mask[5, 0, 0] = True
    assert deepest_of_parts(mask, (1.0, 1.0, 1.0), 3, 0.1)[:, 0].tolist() == [14, 1]
    assert deepest_of_parts(mask, (1.0, 1.0, 1.0), 3)[:, 0].tolist() == [14, 1, 5]
    assert deepest_of_parts(~np.ones((2, 2, 2), bool), (1.0, 1.0, 1.0), 3).shape == (0, 3)
