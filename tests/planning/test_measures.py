import tracemalloc
from typing import Literal

import numpy as np
import pytest

from moe_pipeline.imaging.geometry import Geometry
from moe_pipeline.imaging.volume import Volume
from moe_pipeline.planning import intensities
from moe_pipeline.planning.intensities import measure_channel, summarise_intensity
from moe_pipeline.planning.measures import body_box, find_classes, measure_class

GRID = Geometry((10, 8, 6), (1.0, 2.0, 3.0))


def two_parts() -> np.ndarray:
    """Class 2: a bar of 4x1x1 voxels and, apart from it, a single voxel; class 5: one voxel."""
    label = np.zeros(GRID.shape, np.uint8)
    label[1:5, 2, 3] = 2
    label[9, 7, 5] = 2
    label[0, 0, 0] = 5
    return label


def test_regions_of_the_classes_that_are_there() -> None:
    found = find_classes(two_parts(), {2: "a", 3: "absent", 5: "b"})
    assert sorted(found) == [2, 5]
    assert found[2].box == (slice(1, 10), slice(2, 8), slice(3, 6))


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_regions_do_not_depend_on_the_order_in_memory(order: tuple[int, int, int]) -> None:
    label = np.ascontiguousarray(two_parts().transpose(order)).transpose(np.argsort(order))
    assert find_classes(label, {2: "a", 5: "b"}) == find_classes(two_parts(), {2: "a", 5: "b"})
    assert find_classes(np.zeros_like(label), {2: "a"}) == {}


def test_class_measures_of_a_bar_and_a_dot() -> None:
    label = two_parts()
    whole = np.array([[0, 10], [0, 8], [0, 6]], float)
    found = measure_class(label, 2, find_classes(label, {2: "a"})[2], GRID, whole)
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
    measures, by_class = measure_channel(Volume(image, GRID), label, find_classes(label, {2: "a", 5: "b"}))
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


@pytest.mark.parametrize("order", ["C", "F"])
def test_slabs_change_nothing(order: Literal["C", "F"], monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    label = np.asarray(random.integers(0, 3, (12, 11, 13)).astype(np.uint8), order=order)
    image = np.asarray(random.normal(1e6, 3, label.shape).astype(np.float32), order=order)
    grid = Geometry(label.shape, (1.0, 1.0, 1.0))
    found = find_classes(label, {1: "a", 2: "b"})
    whole = measure_channel(Volume(image, grid), label, found)
    monkeypatch.setattr(intensities, "_SLAB_VOXELS", 200)
    assert measure_channel(Volume(image, grid), label, found) == whole
    foreground = image[label > 0].astype(np.float64)
    assert whole[0].foreground is not None
    assert whole[0].foreground.mean == pytest.approx(foreground.mean(), rel=1e-5)
    assert whole[0].foreground.std == pytest.approx(foreground.std(), rel=1e-4)
    assert whole[1][2].median == pytest.approx(np.median(image[label == 2]), rel=1e-5)


def test_a_large_case_is_not_copied() -> None:
    """Beyond image and label: a mask and four bytes per voxel of the largest class, and slabs."""
    label = np.ones((200, 200, 200), np.uint8, order="F")
    label[:100] = 2
    image = np.asarray(np.random.default_rng(0).integers(-1000, 1000, label.shape), np.int16, order="F")
    grid = Geometry(label.shape, (1.0, 1.0, 1.0))
    body = np.array([[0, 200]] * 3, float)
    tracemalloc.start()
    found = find_classes(label, {1: "a", 2: "b"})
    measure_channel(Volume(image, grid), label, found)
    _, intensity_peak = tracemalloc.get_traced_memory()
    tracemalloc.reset_peak()
    measure_class(label, 1, found[1], grid, body)
    _, class_peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found[1].voxels == found[2].voxels == 4_000_000
    assert intensity_peak < 110e6  # slabs of 4,000,000 voxels in double precision, and what is kept
    assert class_peak < 6 * found[1].voxels
