"""Hand-solved masks, and the empty cases."""

import math

import numpy as np
import pytest

from moe_pipeline.evaluation.metrics import class_metrics
from moe_pipeline.evaluation.surfaces import BoolArray
from moe_pipeline.imaging.itk import sitk
from moe_pipeline.records.evaluation import MeasureRules

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
    assert (found.dice, found.iou, found.nsd, found.hd95_mm) == (1, 1, 1, 0)
    assert found.volume_prediction_ml == found.volume_reference_ml > 0


def test_two_voxels_apart_along_each_axis() -> None:
    reference = voxels((4, 3, 2))
    for position, expected_mm in (((6, 3, 2), 2.0), ((4, 5, 2), 4.0), ((4, 3, 4), 8.0), ((7, 5, 2), 5.0)):
        found = class_metrics(voxels(position), reference, SPACING, MeasureRules(nsd_tolerance_mm=0.5))
        assert found.hd95_mm == pytest.approx(expected_mm)
        assert (found.dice, found.iou, found.nsd) == (0, 0, 0)


def test_overlap_of_bars_solved_by_hand() -> None:
    prediction = voxels((1, 3, 2), (2, 3, 2))
    reference = voxels((2, 3, 2), (3, 3, 2), (4, 3, 2))
    found = class_metrics(prediction, reference, SPACING, MeasureRules(nsd_tolerance_mm=1.0))
    assert found.dice == pytest.approx(2 / 5)
    assert found.iou == pytest.approx(1 / 4)
    assert found.volume_reference_ml == pytest.approx(3 * 8 / 1000)
    assert found.volume_prediction_ml == pytest.approx(2 * 8 / 1000)
    assert found.volumetric_similarity == pytest.approx(1 - 1 / 5)


def test_absent_in_both_is_not_perfect() -> None:
    found = class_metrics(voxels(), voxels(), SPACING)
    measures = (found.dice, found.iou, found.nsd, found.hd95_mm, found.volumetric_similarity)
    assert all(math.isnan(value) for value in measures)
    assert found.volume_prediction_ml == found.volume_reference_ml == 0


@pytest.mark.parametrize("missed", [True, False])
def test_absent_in_one(missed: bool) -> None:
    masks = (voxels(), voxels((1, 2, 3)))
    prediction, reference = masks if missed else masks[::-1]
    found = class_metrics(prediction, reference, SPACING)
    assert (found.dice, found.iou, found.nsd, found.hd95_mm) == (0, 0, 0, math.inf)
    assert found.volumetric_similarity == 0
    volumes = found.volume_prediction_ml, found.volume_reference_ml
    assert volumes == pytest.approx((0, 0.008) if missed else (0.008, 0))


def test_surface_metrics_are_symmetric_and_scale_with_the_spacing() -> None:
    prediction, reference = blob(1), blob(2)
    there = class_metrics(prediction, reference, SPACING, MeasureRules(nsd_tolerance_mm=2))
    back = class_metrics(reference, prediction, SPACING, MeasureRules(nsd_tolerance_mm=2))
    doubled = class_metrics(prediction, reference, (2, 4, 8), MeasureRules(nsd_tolerance_mm=4))
    assert (there.nsd, there.hd95_mm) == (back.nsd, back.hd95_mm)
    assert (doubled.nsd, doubled.hd95_mm) == pytest.approx((there.nsd, 2 * there.hd95_mm))


def test_label_maps_are_no_masks() -> None:
    with pytest.raises(TypeError, match="boolean"):
        class_metrics(np.ones(GRID, np.uint8), voxels(), SPACING)


@pytest.mark.parametrize("seed", range(3))
def test_overlap_agrees_with_itk(seed: int) -> None:
    prediction, reference = blob(seed), blob(seed + 20)
    measures = sitk.LabelOverlapMeasuresImageFilter()
    measures.Execute(*(sitk.GetImageFromArray(mask.astype(np.uint8)) for mask in (prediction, reference)))
    found = class_metrics(prediction, reference, SPACING)
    assert found.dice == pytest.approx(measures.GetDiceCoefficient())
    assert found.iou == pytest.approx(measures.GetJaccardCoefficient())
