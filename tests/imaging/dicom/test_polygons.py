from itertools import pairwise

import numpy as np
import pytest

from moe_pipeline.imaging.dicom.polygons import fill


def box(x: float, y: float, x_end: float, y_end: float) -> np.ndarray:
    return np.array([(x, y), (x_end, y), (x_end, y_end), (x, y_end)], dtype=float)


def test_pixels_whose_centres_lie_inside_are_filled() -> None:
    mask = fill([box(0.5, 1.5, 3.5, 2.5)], (6, 5))
    assert np.argwhere(mask).tolist() == [[1, 2], [2, 2], [3, 2]]


def test_a_triangle_known_by_hand() -> None:
    mask = fill([np.array([(0.2, -0.2), (4.2, -0.2), (0.2, 3.8)])], (6, 6))
    assert [int(row.sum()) for row in mask.T] == [3, 2, 1, 0, 0, 0]


@pytest.mark.parametrize("reverse", [False, True])
def test_direction_and_first_corner_do_not_matter(reverse: bool) -> None:
    outline = np.random.default_rng(1).uniform(-2, 12, (9, 2))
    turned = np.roll(outline[::-1] if reverse else outline, 4, axis=0)
    np.testing.assert_array_equal(fill([outline], (10, 11)), fill([turned], (10, 11)))


def test_a_line_inside_another_is_a_hole_and_an_island_in_it_is_filled() -> None:
    mask = fill([box(-0.5, -0.5, 8.5, 8.5), box(1.5, 1.5, 6.5, 6.5), box(3.5, 3.5, 4.5, 4.5)], (9, 9))
    assert mask.sum() == 81 - 25 + 1
    assert mask[4, 4]
    assert not mask[3, 4]


def test_a_keyhole_is_a_hole() -> None:
    outer, inner = box(-0.5, -0.5, 6.5, 6.5), box(1.5, 1.5, 4.5, 4.5)
    keyhole = np.concatenate([outer, outer[:1], inner, inner[:1]])
    np.testing.assert_array_equal(fill([keyhole], (7, 7)), fill([outer, inner], (7, 7)))
    assert fill([keyhole], (7, 7)).sum() == 49 - 9


def test_neighbours_share_no_pixel_and_leave_none_out() -> None:
    corners = [-1.0, 2.0, 3.5, 7.0]  # some lines run through pixel centres
    tiles = [
        fill([box(x, y, x_end, y_end)], (7, 7)) for x, x_end in pairwise(corners) for y, y_end in pairwise(corners)
    ]
    np.testing.assert_array_equal(np.sum(tiles, axis=0), np.ones((7, 7)))


def test_what_reaches_over_the_sides_is_cut() -> None:
    assert fill([box(-9, -9, 20, 20)], (3, 4)).all()
    assert not fill([box(5, 5, 8, 8), box(-8, 0, -5, 3)], (3, 4)).any()


def test_it_agrees_with_a_test_of_each_centre() -> None:
    random = np.random.default_rng(3)
    for _ in range(20):
        outline = random.uniform(-3, 15, (random.integers(3, 12), 2))
        mask = fill([outline], (12, 9))
        expected = [[crossings(outline, x, y) % 2 == 1 for y in range(9)] for x in range(12)]
        np.testing.assert_array_equal(mask, expected)


def crossings(outline: np.ndarray, x: float, y: float) -> int:
    """Edges that a ray from (x, y) towards negative x crosses."""
    count = 0
    for (x_a, y_a), (x_b, y_b) in zip(outline, np.roll(outline, -1, axis=0), strict=True):
        if (y_a > y) != (y_b > y):
            count += x_a + (y - y_a) / (y_b - y_a) * (x_b - x_a) < x
    return count
