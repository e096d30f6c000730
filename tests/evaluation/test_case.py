"""One row per class, and nothing in a label map goes unmentioned."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from moe_pipeline.errors import GeometryError, ImageError
from moe_pipeline.evaluation.case import case_metrics
from moe_pipeline.evaluation.metrics import class_metrics
from moe_pipeline.imaging.geometry import Geometry
from moe_pipeline.imaging.volume import Volume
from moe_pipeline.records.evaluation import MeasureRules

SHAPE = (12, 9, 7)
GRID = Geometry(SHAPE, (1.0, 1.5, 3.0), (5.0, -3.0, 2.0))
CLASSES = {0: "background", 1: "liver", 2: "spleen", 5: "cyst"}


def labels(dtype: type = np.uint8) -> NDArray[np.integer]:
    array: NDArray[np.integer] = np.zeros(SHAPE, dtype)
    array[1:6, 1:8, 0:7] = 1
    array[8:11, 2:5, 3:5] = 2
    return array


def volume(array: NDArray[np.generic], grid: Geometry = GRID) -> Volume:
    return Volume(array, grid)


def test_a_perfect_prediction() -> None:
    rows = case_metrics(volume(labels()), volume(labels(np.uint16)), CLASSES, "c1")
    assert [(row.class_id, row.class_name, row.status) for row in rows] == [
        (1, "liver", "ok"),
        (2, "spleen", "ok"),
        (5, "cyst", "absent"),
    ]
    assert [(row.dice, row.nsd, row.hd95_mm) for row in rows[:2]] == [(1, 1, 0)] * 2
    assert math.isnan(rows[2].dice)
    assert (rows[2].volume_reference_ml, rows[2].volume_prediction_ml) == (0, 0)
    assert rows[1].volume_reference_ml == pytest.approx(3 * 3 * 2 * 4.5 / 1000)


def test_the_box_around_a_class_changes_nothing() -> None:
    prediction = np.roll(labels(), (1, 1, 0), axis=(0, 1, 2))
    row = case_metrics(volume(prediction), volume(labels()), CLASSES, "c1", MeasureRules(nsd_tolerance_mm=1.2))[1]
    whole = class_metrics(prediction == 2, labels() == 2, GRID.spacing_mm, MeasureRules(nsd_tolerance_mm=1.2))
    assert (row.dice, row.iou, row.nsd, row.hd95_mm) == (whole.dice, whole.iou, whole.nsd, whole.hd95_mm)
    assert 0 < row.nsd < 1


def test_a_class_in_one_mask_only_scores_nothing() -> None:
    missed, invented = labels(), labels()
    missed[missed == 2] = 0
    invented[0, 0, 0] = 5
    rows = case_metrics(volume(missed), volume(invented), CLASSES, "c1")
    assert [(row.dice, row.hd95_mm, row.status) for row in rows[1:]] == [(0, math.inf, "ok")] * 2


def test_label_values_outside_the_class_map_are_reported() -> None:
    prediction, reference = labels(), labels()
    prediction[0, 0, :3] = 7
    reference[11, 0, :2] = 7
    reference[11, 8, 0] = 9
    rows = case_metrics(volume(prediction), volume(reference), CLASSES, "c1")[3:]
    assert [(row.class_id, row.status) for row in rows] == [(7, "unknown_label"), (9, "unknown_label")]
    assert rows[0].message == "label 7 is not in the class map: 3 voxels of the prediction, 2 voxels of the reference"
    assert rows[1].message == "label 9 is not in the class map: 1 voxels of the reference"


def test_an_image_in_place_of_a_label_map_is_one_row() -> None:
    image = np.arange(np.prod(SHAPE), dtype=np.uint16).reshape(SHAPE)
    rows = case_metrics(volume(image), volume(labels()), CLASSES, "c1")
    assert [row.status for row in rows] == ["ok", "ok", "ok", "unknown_label"]
    assert "752 label values" in rows[3].message


@pytest.mark.parametrize(
    ("other", "fault"),
    [
        (Geometry(SHAPE, (1.0, 1.5, 2.0), GRID.origin_mm), "spacing"),
        (Geometry(SHAPE, GRID.spacing_mm, (5.0, -3.0, 2.5)), "origin"),
        (Geometry(SHAPE, GRID.spacing_mm, GRID.origin_mm, (0, 1, 0, 1, 0, 0, 0, 0, 1)), "direction"),
    ],
)
def test_another_grid_is_never_resampled(other: Geometry, fault: str) -> None:
    with pytest.raises(GeometryError, match=f"c1: the prediction does not lie on the grid.*{fault}"):
        case_metrics(volume(labels(), other), volume(labels()), CLASSES, "c1")


@pytest.mark.parametrize("dtype", [np.float32, np.bool_])
def test_only_whole_numbers_are_labels(dtype: type) -> None:
    with pytest.raises(ImageError, match="c1: a label map needs whole numbers"):
        case_metrics(volume(labels().astype(dtype)), volume(labels()), CLASSES, "c1")


def test_negative_labels_are_refused() -> None:
    with pytest.raises(ImageError, match="from -1"):
        case_metrics(volume(labels(np.int16) - 1), volume(labels()), CLASSES, "c1")


@pytest.mark.parametrize("seed", range(10))
def test_regions_are_scored_as_masks_of_their_values(seed: int) -> None:
    random = np.random.default_rng(seed)
    prediction, reference = random.integers(0, 5, (2, *labels().shape)).astype(np.uint8)
    regions = {n: tuple(random.choice(np.arange(1, 5), n, replace=False).tolist()) for n in (1, 2, 3)}
    names = {n: f"region {n}" for n in regions} | {4: "four"}
    rows = case_metrics(volume(prediction), volume(reference), names, "c1", regions=regions)
    for row in rows:
        if row.status == "ok" and row.class_id:
            masks = [np.isin(array, regions.get(row.class_id, (4,))) for array in (prediction, reference)]
            assert row.dice == pytest.approx(2 * (masks[0] & masks[1]).sum() / (masks[0].sum() + masks[1].sum()))
    inside = {value for values in regions.values() for value in values} | {4}
    assert {row.class_id for row in rows if row.status == "unknown_label"} == {1, 2, 3, 4} - inside
