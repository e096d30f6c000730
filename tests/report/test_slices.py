"""A labelled corner must appear where a radiologist expects it."""

from typing import get_args

import numpy as np
import pytest

from moe_pipeline.imaging.geometry import Geometry
from moe_pipeline.imaging.volume import Volume
from moe_pipeline.report.slices import Plane, middle_voxel, normal_index, outlines, take_slice

SHAPE = (4, 5, 6)
SPACING = (1.0, 2.0, 3.0)


def volume_with(voxel: tuple[int, int, int]) -> Volume:
    array = np.zeros(SHAPE, np.uint8)
    array[voxel] = 1
    return Volume(array, Geometry(SHAPE, SPACING))


@pytest.mark.parametrize(
    ("plane", "top_left"),
    [
        ("axial", (3, 4, 2)),  # the patient's right and anterior
        ("coronal", (3, 2, 5)),  # right and superior
        ("sagittal", (2, 4, 5)),  # anterior and superior
    ],
)
def test_the_top_left_corner(plane: Plane, top_left: tuple[int, int, int]) -> None:
    cut = take_slice(volume_with(top_left), plane, normal_index(top_left, plane))
    assert cut.array[0, 0] == 1
    assert cut.array.sum() == 1


@pytest.mark.parametrize(
    ("plane", "shape", "pixel_mm"),
    [("axial", (5, 4), (2, 1)), ("coronal", (6, 4), (3, 1)), ("sagittal", (6, 5), (3, 2))],
)
def test_sizes(plane: Plane, shape: tuple[int, int], pixel_mm: tuple[float, float]) -> None:
    cut = take_slice(volume_with((0, 0, 0)), plane, 0)
    assert (cut.array.shape, cut.pixel_mm) == (shape, pixel_mm)


def test_each_plane_through_the_middle_meets_the_labels() -> None:
    array = np.zeros((20, 20, 20), np.uint8)
    array[1:3, 1:3, 1:3] = 1
    array[15:18, 16:18, 4:9] = 7
    middle = middle_voxel(array)
    labels = Volume(array, Geometry(array.shape, (1, 1, 1)))
    for plane in get_args(Plane):
        assert take_slice(labels, plane, normal_index(middle, plane)).array.any()


def test_the_middle_of_one_voxel_and_of_none() -> None:
    assert middle_voxel(volume_with((3, 0, 5)).array) == (3, 0, 5)
    assert middle_voxel(np.zeros(SHAPE, np.uint8)) == (2, 2, 3)


def test_outlines_run_inside_the_label() -> None:
    labels = np.zeros((7, 7), int)
    labels[1:6, 1:6] = 2
    expected = labels > 0
    expected[2:5, 2:5] = False
    np.testing.assert_array_equal(outlines(labels), expected)
    assert not outlines(np.full((3, 3), 4)).any()
