import numpy as np
import pytest

from moe_pipeline.imaging.geometry import Geometry
from moe_pipeline.imaging.volume import Volume
from moe_pipeline.planning.measures import body_box, class_boxes, measure_channel, measure_class, summarise_intensity

GRID = Geometry((10, 8, 6), (1.0, 2.0, 3.0))


def two_parts() -> np.ndarray:
    """Class 2: a bar of 4x1x1 voxels and, apart from it, a single voxel; class 5: one voxel."""
    label = np.zeros(GRID.shape, np.uint8)
    label[1:5, 2, 3] = 2
    label[9, 7, 5] = 2
    label[0, 0, 0] = 5
    return label


def test_boxes_of_the_classes_that_are_there() -> None:
    boxes = class_boxes(two_parts(), {2: "a", 3: "absent", 5: "b"})
    assert sorted(boxes) == [2, 5]
    assert boxes[2] == (slice(1, 10), slice(2, 8), slice(3, 6))


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_boxes_do_not_depend_on_the_order_in_memory(order: tuple[int, int, int]) -> None:
    label = np.ascontiguousarray(two_parts().transpose(order)).transpose(np.argsort(order))
    assert class_boxes(label, {2: "a", 5: "b"}) == class_boxes(two_parts(), {2: "a", 5: "b"})
    assert class_boxes(np.zeros_like(label), {2: "a"}) == {}


def test_class_measures_of_a_bar_and_a_dot() -> None:
    label = two_parts()
    whole = np.array([[0, 10], [0, 8], [0, 6]], float)
    found = measure_class(label, 2, class_boxes(label, {2: "a"})[2], GRID, whole)
    assert found["voxels"] == 5
    assert found["volume_ml"] == pytest.approx(5 * 6 / 1000)
    assert found["box_mm"] == ((1, 10), (4, 16), (9, 18))
    assert found["components"] == 2
    assert found["object_mm"] == (4, 2, 3)
    centre = np.array([(1 + 2 + 3 + 4 + 9) / 5, (4 * 2 + 7) / 5, (4 * 3 + 5) / 5]) + 0.5
    assert found["centroid"] == pytest.approx(tuple(centre / (10, 8, 6)), rel=1e-5)


def test_intensities_by_channel_foreground_and_class() -> None:
    label = two_parts()
    image = np.zeros(GRID.shape, np.int16)
    image[label == 2] = [10, 20, 30, 40, 50]
    image[label == 5] = -30
    measures, by_class = measure_channel(Volume(image, GRID), label, class_boxes(label, {2: "a", 5: "b"}))
    assert by_class[2].mean == 30
    assert by_class[2].median == 30
    assert by_class[2].std == pytest.approx(np.sqrt(200), rel=1e-5)
    assert by_class[5].std == 0
    assert measures.foreground is not None
    assert measures.foreground.mean == 20
    assert len(measures.foreground_quantiles) == 200
    assert measures.foreground_quantiles[0] < measures.foreground_quantiles[-1]


def test_a_case_without_foreground_has_an_image_all_the_same() -> None:
    measures, by_class = measure_channel(Volume(np.ones(GRID.shape), GRID), np.zeros(GRID.shape, np.uint8), {})
    assert by_class == {}
    assert measures.foreground is None
    assert measures.image.mean == 1


def test_body_box_is_the_bright_part() -> None:
    image = np.full((40, 30, 20), -1000, np.int16)
    image[10:30, 5:25, 2:18] = 40
    np.testing.assert_array_equal(body_box(image), [[10, 30], [5, 25], [2, 18]])
    np.testing.assert_array_equal(body_box(np.ones((4, 5, 6))), [[0, 4], [0, 5], [0, 6]])


def test_thinning_hardly_changes_the_percentiles() -> None:
    values = np.random.default_rng(0).normal(100, 10, 3_000_000).astype(np.float32)
    found = summarise_intensity(values)
    assert found.percentile_99_5 == pytest.approx(np.percentile(values, 99.5), rel=0.001)
    assert found.mean == pytest.approx(100, abs=0.05)
