"""Hand-solved masks, the empty cases, and agreement with a distance map."""

import math

import numpy as np
import pytest
from scipy.ndimage import distance_transform_edt

from moe_pipeline.evaluation.metrics import (
    BoolArray,
    class_metrics,
    hausdorff95_mm,
    normalised_surface_distance,
    surface,
    surface_distances,
)
from moe_pipeline.imaging.itk import sitk

SPACING = (1.0, 2.0, 4.0)
GRID = (9, 7, 5)


def voxels(*positions: tuple[int, int, int]) -> BoolArray:
    mask = np.zeros(GRID, bool)
    for position in positions:
        mask[position] = True
    return mask


def blob(seed: int) -> BoolArray:
    rng = np.random.default_rng(seed)
    grid = np.indices((21, 17, 13)) - rng.uniform(5, 8, 3)[:, None, None, None]
    noise = rng.normal(0, 6, (21, 17, 13))
    return np.asarray((grid**2).sum(0) + noise < 20, dtype=np.bool_)


def test_equal_masks_are_perfect() -> None:
    found = class_metrics(blob(0), blob(0), SPACING)
    assert (found.dice, found.iou, found.nsd, found.hd95_mm, found.volume_difference_ml) == (1, 1, 1, 0, 0)


def test_two_voxels_apart_along_each_axis() -> None:
    reference = voxels((4, 3, 2))
    for position, expected_mm in (((6, 3, 2), 2.0), ((4, 5, 2), 4.0), ((4, 3, 4), 8.0), ((7, 5, 2), 5.0)):
        found = class_metrics(voxels(position), reference, SPACING)
        assert found.hd95_mm == pytest.approx(expected_mm)
        assert (found.dice, found.iou, found.nsd) == (0, 0, 0)


def test_half_overlapping_bars_solved_by_hand() -> None:
    prediction = voxels((1, 3, 2), (2, 3, 2))
    reference = voxels((2, 3, 2), (3, 3, 2), (4, 3, 2))
    found = class_metrics(prediction, reference, SPACING, tolerance_mm=1.0)
    assert found.dice == pytest.approx(2 / 5)
    assert found.iou == pytest.approx(1 / 4)
    assert found.nsd == pytest.approx((2 + 2) / 5)  # distances 1, 0 and 0, 1, 2
    assert found.hd95_mm == pytest.approx(1.9)  # 95 % of the way from 0 to 2, between 1 and 2
    assert found.volume_reference_ml == pytest.approx(3 * 8 / 1000)
    assert found.volume_difference_ml == pytest.approx(-8 / 1000)


def test_stray_voxel_moves_hd95_only_when_it_is_more_than_five_percent() -> None:
    reference = np.zeros((30, 1, 1), bool)
    reference[:25] = True
    stray = reference.copy()
    stray[29] = True
    assert class_metrics(stray, reference, (1, 1, 1)).hd95_mm == 0
    reference[10:] = stray[10:29] = False
    assert class_metrics(stray, reference, (1, 1, 1)).hd95_mm > 9


def test_absent_in_both_is_not_perfect() -> None:
    found = class_metrics(voxels(), voxels(), SPACING)
    assert all(math.isnan(value) for value in (found.dice, found.iou, found.nsd, found.hd95_mm))
    assert found.volume_difference_ml == 0


@pytest.mark.parametrize("missed", [True, False])
def test_absent_in_one(missed: bool) -> None:
    masks = (voxels(), voxels((1, 2, 3)))
    prediction, reference = masks if missed else masks[::-1]
    found = class_metrics(prediction, reference, SPACING)
    assert (found.dice, found.iou, found.nsd, found.hd95_mm) == (0, 0, 0, math.inf)
    assert found.volume_difference_ml == pytest.approx(-0.008 if missed else 0.008)


def test_surface_of_a_filled_cube_is_its_shell() -> None:
    cube = np.zeros((7, 7, 7), bool)
    cube[1:6, 1:6, 1:6] = True
    hollow = cube.copy()
    hollow[2:5, 2:5, 2:5] = False
    np.testing.assert_array_equal(surface(cube), hollow)


def test_the_edge_of_the_grid_is_outside() -> None:
    full = np.ones((3, 4, 5), bool)
    assert surface(full).sum() == 3 * 4 * 5 - 1 * 2 * 3


@pytest.mark.parametrize("seed", range(4))
def test_distances_agree_with_a_distance_map(seed: int) -> None:
    prediction, reference = blob(seed), blob(seed + 10)
    found = surface_distances(prediction, reference, SPACING)
    to_reference = distance_transform_edt(~surface(reference), sampling=SPACING)[surface(prediction)]
    to_prediction = distance_transform_edt(~surface(prediction), sampling=SPACING)[surface(reference)]
    np.testing.assert_allclose(found.prediction_to_reference_mm, to_reference)
    np.testing.assert_allclose(found.reference_to_prediction_mm, to_prediction)
    expected_mm = max(np.percentile(to_reference, 95), np.percentile(to_prediction, 95))
    assert hausdorff95_mm(found) == pytest.approx(expected_mm)


def test_surface_metrics_are_symmetric_and_scale_with_the_spacing() -> None:
    prediction, reference = blob(1), blob(2)
    there = class_metrics(prediction, reference, SPACING, tolerance_mm=2)
    back = class_metrics(reference, prediction, SPACING, tolerance_mm=2)
    doubled = class_metrics(prediction, reference, (2, 4, 8), tolerance_mm=4)
    assert (there.nsd, there.hd95_mm) == (back.nsd, back.hd95_mm)
    assert (doubled.nsd, doubled.hd95_mm) == (there.nsd, pytest.approx(2 * there.hd95_mm))


def test_a_distance_equal_to_the_tolerance_counts_in_spite_of_rounding() -> None:
    assert 7 * 0.7 - 6 * 0.7 > 0.7
    distances = surface_distances(voxels((7, 0, 0)), voxels((6, 0, 0)), (0.7, 1, 1))
    assert normalised_surface_distance(distances, 0.7) == 1
    assert normalised_surface_distance(distances, 0.69) == 0


def test_negative_tolerance_is_refused() -> None:
    distances = surface_distances(voxels(), voxels(), SPACING)
    with pytest.raises(ValueError, match="tolerance_mm must be 0 or more, got -1"):
        normalised_surface_distance(distances, -1)


def test_label_maps_are_no_masks() -> None:
    with pytest.raises(TypeError, match="boolean"):
        class_metrics(np.ones(GRID, np.uint8), voxels(), SPACING)  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", range(3))
def test_overlap_agrees_with_itk(seed: int) -> None:
    prediction, reference = blob(seed), blob(seed + 20)
    measures = sitk.LabelOverlapMeasuresImageFilter()
    measures.Execute(*(sitk.GetImageFromArray(mask.astype(np.uint8)) for mask in (prediction, reference)))
    found = class_metrics(prediction, reference, SPACING)
    assert found.dice == pytest.approx(measures.GetDiceCoefficient())
    assert found.iou == pytest.approx(measures.GetJaccardCoefficient())
