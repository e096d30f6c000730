import numpy as np
import pytest
from numpy.typing import NDArray

from moe_pipeline.training.click_proposer.samples import click_target


def ball(centre: tuple[int, int, int], radius: float, side: int = 32) -> NDArray[np.bool_]:
    places = np.indices((side, side, side))
    return ((places - np.array(centre)[:, None, None, None]) ** 2).sum(0) <= radius**2


def test_the_target_is_a_distribution_with_its_peak_in_the_middle() -> None:
    target = click_target(ball((10, 18, 22), 7), (8, 8, 8), power=2.0)
    assert target.shape == (8, 8, 8)
    assert target.sum() == pytest.approx(1.0, abs=1e-5)
    assert tuple(map(int, np.unravel_index(target.argmax(), target.shape))) == (2, 4, 5)


def test_a_higher_power_keeps_closer_to_the_thickest_place() -> None:
    mask = ball((16, 16, 16), 9)
    assert click_target(mask, (8, 8, 8), 4.0).max() > click_target(mask, (8, 8, 8), 1.0).max()


def test_parts_of_one_size_are_worth_the_same() -> None:
    target = click_target(ball((6, 6, 6), 4) | ball((24, 24, 24), 4), (8, 8, 8), 2.0)
    assert target[:4].sum() == pytest.approx(0.5, abs=1e-4)


def test_a_small_part_has_a_peak_of_its_own() -> None:
    target = click_target(
        ball((8, 8, 8), 7) | ball((26, 26, 26), 2), (32, 32, 32), 2.0
    )  # low-resolution voxels are voxels here
    assert target[26, 26, 26] == pytest.approx(target[8, 8, 8], rel=1e-3)


def test_the_face_of_the_crop_is_no_border() -> None:
    mask = np.zeros((16, 16, 16), dtype=bool)
    mask[:, 4:12, 4:12] = True  # a bar that runs through the crop
    along = click_target(mask, (4, 4, 4), 2.0).sum(axis=(1, 2))
    assert along == pytest.approx(np.full(4, 0.25), abs=1e-6)


def test_one_voxel_is_enough() -> None:
    mask = np.zeros((8, 8, 8), dtype=bool)
    mask[7, 0, 3] = True
    assert click_target(mask, (4, 4, 4), 2.0)[3, 0, 1] == 1.0
