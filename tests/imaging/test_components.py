from typing import Literal

import numpy as np
import pytest

from moe_pipeline.imaging.components import Region, connected_parts, label_components, regions


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
    assert connected_parts(np.zeros((2, 3, 4), bool)) == []


@pytest.mark.parametrize("order", ["C", "F", "flipped"])
def test_the_order_in_memory_does_not_matter(order: Literal["C", "F", "flipped"]) -> None:
    mask = np.zeros((5, 4, 3), bool)
    mask[0, 0, 0] = mask[1, 1, 1] = mask[4, 3, 0] = True
    same = mask[::-1].copy()[::-1] if order == "flipped" else np.asarray(mask, order=order)
    numbers, sizes = label_components(same)
    assert numbers.shape == mask.shape
    np.testing.assert_array_equal(numbers > 0, mask)
    assert numbers[0, 0, 0] == numbers[1, 1, 1] != numbers[4, 3, 0]
    assert sorted(sizes.values()) == [1, 2]
    parts = sorted(connected_parts(same), key=lambda part: part.voxels)
    assert parts[0] == Region(1, (slice(4, 5), slice(3, 4), slice(0, 1)), (4.0, 3.0, 0.0))
    assert parts[1] == Region(2, (slice(0, 2), slice(0, 2), slice(0, 2)), (0.5, 0.5, 0.5))


@pytest.mark.parametrize("value", [2, 65_535])
def test_regions_of_values_with_gaps(value: int) -> None:
    labels = np.zeros((4, 3, 5), np.uint16)
    labels[1, :, 2:4] = value
    found = regions(labels)
    assert found == {value: Region(6, (slice(1, 2), slice(0, 3), slice(2, 4)), (1.0, 1.0, 2.5))}
    assert regions(np.zeros((2, 2, 2), np.uint8)) == {}
