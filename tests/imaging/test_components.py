import numpy as np

from moe_pipeline.imaging.components import label_components


def test_parts_touch_by_corners_and_have_sizes() -> None:
    mask = np.zeros((6, 5, 4), bool)
    mask[0, 0, 0] = mask[1, 1, 1] = True
    mask[4:, 4, 3] = True
    numbers, sizes = label_components(mask)
    assert sorted(sizes.values()) == [2, 2]
    assert numbers[0, 0, 0] == numbers[1, 1, 1] != numbers[5, 4, 3]
    assert (numbers[~mask] == 0).all()


def test_an_empty_mask_has_no_parts() -> None:
    assert label_components(np.zeros((2, 3, 4), bool))[1] == {}
