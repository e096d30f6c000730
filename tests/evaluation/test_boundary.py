"""Boundary voxels by hand, and against ITK's erosion."""

import math

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from moe_pipeline.evaluation.boundary import boundary_hausdorff_mm
from moe_pipeline.evaluation.metrics import class_metrics
from moe_pipeline.evaluation.surfaces import BoolArray
from moe_pipeline.imaging.itk import sitk
from moe_pipeline.records.evaluation import MeasureRules

SPACING = (1.0, 2.0, 4.0)
RULES = MeasureRules(hd95="boundary_voxels")
GRID = (9, 9, 9)


def bar(start: int, stop: int) -> BoolArray:
    """Voxels along x."""
    mask = np.zeros((12, 5, 5), bool)
    mask[start:stop, 2, 2] = True
    return mask


def cube(side: int) -> BoolArray:
    """A cube around the middle of the grid; all of it but its core of side - 2 is boundary."""
    mask = np.zeros(GRID, bool)
    middle = slice(4 - side // 2, 5 + side // 2)
    mask[middle, middle, middle] = True
    return mask


def test_the_larger_of_two_directed_percentiles() -> None:
    # A thin bar is all boundary. From 2 voxels to 6: distances 0, 0. Back: 0, 0, 1, 2, 3, 4 voxels, of which the 95th
    # percentile lies three quarters between 3 and 4.
    assert boundary_hausdorff_mm(bar(3, 5), bar(3, 9), SPACING, 95) == pytest.approx(3.75)
    assert boundary_hausdorff_mm(bar(3, 9), bar(3, 5), SPACING, 95) == pytest.approx(3.75)


def test_distances_are_in_mm_along_each_axis() -> None:
    for axis, expected_mm in enumerate((2.0, 4.0, 8.0)):
        moved = np.roll(cube(1), 2, axis)
        assert boundary_hausdorff_mm(moved, cube(1), SPACING, 95) == pytest.approx(expected_mm)


def test_inner_voxels_do_not_count() -> None:
    hollow = cube(5) & ~cube(3)
    assert boundary_hausdorff_mm(hollow, cube(5), (1.0, 1.0, 1.0), 100) == 0
    # of a cube of 3 all but its middle is boundary, which is 1 from that of the cube of 5; its corners are 3 ** 0.5
    assert boundary_hausdorff_mm(cube(3), cube(5), (1.0, 1.0, 1.0), 100) == pytest.approx(3**0.5)


def test_empty_masks() -> None:
    nothing = np.zeros_like(bar(1, 2))
    assert math.isnan(boundary_hausdorff_mm(nothing, bar(1, 2), SPACING, 95))
    assert math.isnan(boundary_hausdorff_mm(nothing, nothing, SPACING, 95))
    assert boundary_hausdorff_mm(bar(1, 2), nothing, SPACING, 95) == math.inf
    missed = class_metrics(nothing, bar(1, 2), SPACING, RULES)
    assert (missed.dice, missed.volumetric_similarity) == (0, 0)
    assert math.isnan(missed.hd95_mm)


@pytest.mark.parametrize("seed", range(2))
def test_boundaries_are_those_of_itks_erosion_and_its_border(seed: int) -> None:
    random = np.random.default_rng(seed)
    masks = [random.normal(0, 1, (8, 7, 6)).cumsum(0).cumsum(1) > 0 for _ in range(2)]  # cut off by the image
    places = []
    for mask in masks:
        image = sitk.GetImageFromArray(mask.astype(np.uint8).transpose())
        edge = sitk.Subtract(image, sitk.BinaryErode(image, (1, 1, 1)))
        places.append(np.argwhere(sitk.GetArrayFromImage(edge).transpose()) * SPACING)
    apart = cdist(places[0], places[1])
    expected = max(np.percentile(apart.min(axis), 95) for axis in (0, 1))
    assert boundary_hausdorff_mm(masks[0], masks[1], SPACING, 95) == pytest.approx(expected)
