from itertools import permutations

import numpy as np

from dataset_conversion.masks import Mask, merge_masks


def test_the_smallest_structure_keeps_what_is_shared_in_any_order() -> None:
    shape = (6, 5, 4)
    liver, tumour, vein = (np.zeros(shape, bool) for _ in range(3))
    liver[1:5, 1:5] = True  # 64 voxels
    tumour[2:4, 2:4, 1:3] = True  # 8
    vein[3, :, 1] = True  # 5, crosses both
    masks = [Mask("liver", 3, liver), Mask("tumour", 2, tumour), Mask("vein", 1, vein)]
    expected = np.where(vein, 1, np.where(tumour, 2, np.where(liver, 3, 0)))
    for order in permutations(masks):
        labels, notes = merge_masks(iter(order), shape)
        np.testing.assert_array_equal(labels, expected)
        assert labels.dtype == np.uint16
        assert len(notes) == 1
        assert notes[0].startswith("10 voxels are in several masks (")  # 8 of the tumour, 4 of the vein, 2 of both


def test_equal_sizes_go_to_the_lower_value_and_apart_masks_need_no_note() -> None:
    one = np.zeros((4, 1, 1), bool)
    other = one.copy()
    one[:2], other[1:3] = True, True
    labels, notes = merge_masks([Mask("a", 5, one), Mask("b", 4, other)], one.shape)
    assert labels.ravel().tolist() == [5, 4, 4, 0]
    assert notes == ("1 voxels are in several masks (a/b), the smallest structure keeps them",)
    labels, notes = merge_masks([Mask("a", 300, one)], one.shape)
    assert labels.ravel().tolist() == [300, 300, 0, 0]
    assert notes == ()


def test_many_pairs_are_counted() -> None:
    everywhere = np.ones((2, 2, 2), bool)
    labels, notes = merge_masks([Mask(f"m{n}", n, everywhere) for n in range(8, 0, -1)], everywhere.shape)
    assert (labels == 1).all()
    assert "and 2 more pairs" in notes[0]


def test_parts_are_as_good_as_whole_masks() -> None:
    random = np.random.default_rng(0)
    whole, parts = [], []
    for value in range(1, 6):
        x, y, z = random.integers(0, 4, 3).tolist()
        start = (x, y, z)
        part = random.random((4, 3, 2)) < 0.6
        array = np.zeros((8, 7, 6), bool)
        array[tuple(slice(first, first + side) for first, side in zip(start, part.shape, strict=True))] = part
        whole.append(Mask(f"m{value}", value, array))
        parts.append(Mask(f"m{value}", value, part, start))
    labels, notes = merge_masks(parts, (8, 7, 6))
    expected, expected_notes = merge_masks(whole, (8, 7, 6))
    np.testing.assert_array_equal(labels, expected)
    assert notes == expected_notes
