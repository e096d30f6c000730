import numpy as np
import pytest

from moe_pipeline.imaging.geometry import Geometry
from moe_pipeline.imaging.views import extract_crop, normalise, view_grid
from moe_pipeline.imaging.volume import Volume
from moe_pipeline.records.foundation import Normalisation, View

VIEW = View(spacing_mm=1.5, size_voxels=16)
LAS = (-1.0, 0, 0, 0, 1, 0, 0, 0, 1)


def test_view_grid_is_ras_at_the_views_spacing_from_the_images_corner() -> None:
    image = Geometry((40, 30, 20), (0.8, 0.9, 3), (5, -7, 11), LAS)
    crop_grid = view_grid(image, VIEW)
    assert crop_grid.spacing_mm == (1.5, 1.5, 1.5)
    assert crop_grid.shape == (22, 18, 40)
    np.testing.assert_allclose(crop_grid.matrix, np.eye(3))
    np.testing.assert_allclose(crop_grid.voxel_to_world([-0.5] * 3), image.voxel_to_world([39.5, -0.5, -0.5]))


def test_sam_med3d_crop_equals_a_direct_computation() -> None:
    """Identical spacing, so resampling is slicing: pad with 0, then the z-score of SAM-Med3D's preprocessing."""
    image = np.random.default_rng(1).normal(20, 30, (12, 30, 20)).astype(np.float32)
    geometry = Geometry(image.shape, (1.5, 1.5, 1.5), (100, 0, 0))
    grid = view_grid(geometry, VIEW).cropped(((-4, 12), (7, 23), (2, 18)))
    padded = np.zeros((16, 16, 16), np.float32)
    padded[4:16] = image[0:12, 7:23, 2:18]
    positive = padded[padded > 0]
    expected = (padded - positive.mean()) / positive.std(ddof=1)
    crop = extract_crop(Volume(image, geometry), grid, VIEW)
    assert crop.dtype == np.float32
    assert crop.flags.c_contiguous
    np.testing.assert_allclose(crop, expected, atol=1e-5)


def test_clipped_rule_uses_the_image_alone_and_pads_with_its_lowest_value() -> None:
    image = np.random.default_rng(2).normal(-500, 40, (16, 16, 8)).astype(np.float32)
    geometry = Geometry(image.shape, (1.5, 1.5, 1.5))
    view = VIEW.model_copy(update={"normalisation": "zscore_clipped"})
    grid = view_grid(geometry, view).cropped(((0, 16), (0, 16), (-4, 12)))
    crop = extract_crop(Volume(image, geometry), grid, view)
    clipped = np.clip(image, *np.percentile(image, (0.5, 99.5)))
    expected = (clipped - clipped.mean()) / clipped.std()
    np.testing.assert_allclose(crop[:, :, 4:12], expected, atol=1e-4)
    np.testing.assert_allclose(crop[:, :, :4], expected.min(), atol=1e-4)


@pytest.mark.parametrize("rule", ["zscore_positive", "zscore_clipped", "foreground"])
@pytest.mark.parametrize("value", [-3.0, 0.0, 1e6])
def test_crops_without_contrast_become_zeros(rule: Normalisation, value: float) -> None:
    crop = np.full((4, 4, 4), value, np.float32)
    for within in (np.ones_like(crop, bool), np.zeros_like(crop, bool)):
        np.testing.assert_array_equal(normalise(crop, within, rule), np.zeros_like(crop))


def test_the_foreground_rule_looks_at_the_whole_image_and_not_at_the_crop() -> None:
    array = np.random.default_rng(2).normal(-500, 300, (16, 12, 10)).astype(np.float32)
    array[:4] += 600
    geometry = Geometry((16, 12, 10), (1.0, 1.0, 1.0))
    view = View(spacing_mm=1.0, size_voxels=(8, 12, 12), normalisation="foreground")
    grid = view_grid(geometry, view).cropped(((8, 16), (0, 12), (-1, 11)))
    crop = extract_crop(Volume(array, geometry), grid, view)
    low, high = np.percentile(array[array > array.mean()], (0.05, 99.95))
    expected = (np.clip(array[8:], low, high) - low) / (high - low)
    np.testing.assert_allclose(crop[:, :, 1:11], expected, atol=1e-5)
    assert not crop[:, :, [0, 11]].any()


def test_normalising_does_not_change_its_input() -> None:
    crop = np.arange(27, dtype=np.float32).reshape(3, 3, 3)
    before = crop.copy()
    for rule in ("zscore_positive", "zscore_clipped", "foreground"):
        normalise(crop, np.ones_like(crop, bool), rule)
    np.testing.assert_array_equal(crop, before)


def test_scale_and_offset_of_the_scanner_do_not_matter() -> None:
    crop = np.random.default_rng(3).uniform(1, 5, (8, 8, 8)).astype(np.float32)
    within = np.ones_like(crop, bool)
    np.testing.assert_allclose(
        normalise(crop * 1e5, within, "zscore_clipped"), normalise(crop, within, "zscore_clipped"), atol=1e-4
    )
