from dataclasses import replace

import numpy as np
import pytest

from moe_pipeline.errors import ImageError
from moe_pipeline.imaging.checks.repair import can_snap, distance_in_voxels, on_grid_of, rounded, snapped
from moe_pipeline.imaging.geometry import Geometry
from moe_pipeline.imaging.volume import Volume

IMAGE = Geometry((20, 30, 10), (1.0, 1.5, 4.0), (5.0, -7.0, 3.0))


def test_the_distance_of_two_grids_is_that_of_their_farthest_voxels() -> None:
    assert distance_in_voxels(IMAGE, IMAGE) == pytest.approx(0, abs=1e-9)
    shifted = replace(IMAGE, origin_mm=(5.0, -7.0, 4.0))
    assert distance_in_voxels(shifted, IMAGE) == pytest.approx(0.25)  # 1 of 4 mm
    stretched = replace(IMAGE, spacing_mm=(1.01, 1.5, 4.0))
    assert distance_in_voxels(stretched, IMAGE) == pytest.approx(0.19)  # 19 steps of 0.01
    assert distance_in_voxels(replace(IMAGE, shape=(20, 30, 11)), IMAGE) == float("inf")


def test_headers_that_mean_the_same_can_be_snapped_and_others_cannot() -> None:
    assert can_snap(replace(IMAGE, origin_mm=(5.01, -7.0, 3.0)), IMAGE)
    assert not can_snap(replace(IMAGE, origin_mm=(5.2, -7.0, 3.0)), IMAGE)
    assert not can_snap(replace(IMAGE, spacing_mm=(1.0, 1.5, 3.9)), IMAGE)


def test_snapping_changes_the_header_and_undoes_another_axis_order() -> None:
    array = np.arange(6000).reshape(IMAGE.shape)
    nearly = replace(IMAGE, origin_mm=(5.01, -7.0, 3.0))
    assert snapped(Volume(array, nearly), IMAGE).geometry == IMAGE
    turned = Volume(array.transpose(2, 0, 1)[::-1], IMAGE_TURNED)
    assert can_snap(turned.geometry, IMAGE)
    np.testing.assert_array_equal(snapped(turned, IMAGE).array, array)


IMAGE_TURNED = Geometry(  # index axes run I, R, A
    (10, 20, 30), (4.0, 1.0, 1.5), (5.0, -7.0, 3.0 + 9 * 4.0), (0, 1, 0, 0, 0, 1, -1, 0, 0)
)


def test_a_label_is_moved_onto_the_grid_of_its_image() -> None:
    fine = Geometry((40, 60, 40), (0.5, 0.75, 1.0), (4.75, -7.375, 1.5))  # the same field of view
    label = Volume(np.zeros(fine.shape, np.uint8), fine)
    label.array[8:16, 20:40, 8:20] = 3
    moved = on_grid_of(label, IMAGE)
    assert moved.geometry == IMAGE
    expected = np.zeros(IMAGE.shape, np.uint8)
    expected[4:8, 10:20, 2:5] = 3
    np.testing.assert_array_equal(moved.array, expected)
    with pytest.raises(ImageError, match="they do not overlap"):
        on_grid_of(Volume(label.array, replace(fine, origin_mm=(500, 0, 0))), IMAGE)


def test_noise_is_rounded_and_a_soft_label_is_not() -> None:
    noisy = Volume(np.array([[[0.0, 0.9999, 2.004]]]), Geometry((1, 1, 3), (1, 1, 1)))
    assert rounded(noisy).array.tolist() == [[[0, 1, 2]]]
    soft = Volume(np.array([[[0.0, 0.5, 1.0]]]), Geometry((1, 1, 3), (1, 1, 1)))
    assert rounded(soft) is soft
