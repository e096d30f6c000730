"""Surfaces by hand, against a distance map, and against DeepMind's package where it is installed."""

import math

import numpy as np
import pytest
from scipy.ndimage import distance_transform_edt, gaussian_filter
from skimage.measure import marching_cubes, mesh_surface_area

from moe_pipeline.evaluation.metrics import class_metrics
from moe_pipeline.evaluation.surfaces import (
    BoolArray,
    hausdorff_mm,
    normalised_surface_distance,
    piece_areas_mm2,
    surface_distances,
)
from moe_pipeline.records.evaluation import MeasureRules

SPACINGS = [(1.0, 1.0, 1.0), (0.7, 0.8, 3.0), (1.5, 2.0, 1.0)]


def blob(seed: int, shape: tuple[int, int, int] = (24, 20, 16)) -> BoolArray:
    """An uneven ball that touches no border."""
    rng = np.random.default_rng(seed)
    middle = np.array(shape)[:, None, None, None] / 2
    radius = np.sqrt(((np.indices(shape) - middle) ** 2).sum(axis=0))
    return np.asarray(radius < 6 + 30 * gaussian_filter(rng.normal(size=shape), 3), dtype=np.bool_)


def noise(seed: int) -> BoolArray:
    """Every possible neighbourhood, up to the borders."""
    return np.asarray(np.random.default_rng(seed).random((12, 9, 7)) < 0.4, dtype=np.bool_)


def plane(at: int) -> BoolArray:
    mask = np.zeros((12, 8, 8), bool)
    mask[at:] = True
    return mask


def test_a_single_voxel_is_an_octahedron_of_eight_pieces() -> None:
    mask = np.zeros((5, 5, 5), bool)
    mask[2, 2, 2] = True
    found = surface_distances(mask, mask, (1.0, 1.0, 1.0)).of_prediction
    assert len(found.areas_mm2) == 8
    assert found.areas_mm2 == pytest.approx(math.sqrt(3) / 8)  # a triangle of half diagonals


def test_parallel_planes_are_as_far_apart_as_they_were_made() -> None:
    distances = surface_distances(plane(4), plane(6), (1.5, 1.0, 1.0))
    assert hausdorff_mm(distances, 100) == pytest.approx(3.0)
    assert normalised_surface_distance(distances, 2.9) < 1
    assert normalised_surface_distance(distances, 3.0) == 1


@pytest.mark.parametrize("spacing_mm", SPACINGS)
@pytest.mark.parametrize("make", [blob, noise])
def test_distances_agree_with_a_distance_map(make: type, spacing_mm: tuple[float, float, float]) -> None:
    prediction, reference = make(0), make(1)
    found = surface_distances(prediction, reference, spacing_mm)
    borders = [border_of(mask) for mask in (prediction, reference)]
    expected = distance_transform_edt(~borders[1], sampling=spacing_mm)[borders[0]]
    np.testing.assert_allclose(found.of_prediction.distances_mm, np.sort(expected))
    expected = distance_transform_edt(~borders[0], sampling=spacing_mm)[borders[1]]
    np.testing.assert_allclose(found.of_reference.distances_mm, np.sort(expected))


def border_of(mask: BoolArray) -> BoolArray:
    """Corners between voxels that do not all agree, counted the slow way."""
    padded = np.pad(mask, 1)
    border = np.zeros([n - 1 for n in padded.shape], bool)
    for place in np.ndindex(border.shape):
        cube = padded[tuple(slice(n, n + 2) for n in place)]
        border[place] = cube.any() and not cube.all()
    return border


def test_the_pieces_of_a_ball_have_the_area_of_its_mesh() -> None:
    ball = blob(3)
    for spacing_mm in SPACINGS:
        points, faces, _, _ = marching_cubes(ball.astype(float), 0.5, spacing=spacing_mm)
        area = surface_distances(ball, ball, spacing_mm).of_prediction.areas_mm2.sum()
        assert area == pytest.approx(mesh_surface_area(points, faces), rel=0.02)


@pytest.mark.filterwarnings("ignore:Please import:DeprecationWarning")  # the package's own, in scipy
@pytest.mark.parametrize("spacing_mm", SPACINGS)
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("make", [blob, noise])
def test_metrics_agree_with_deepminds_package(make: type, seed: int, spacing_mm: tuple[float, float, float]) -> None:
    package = pytest.importorskip("surface_distance")
    prediction, reference = make(seed), make(seed + 10)
    theirs = package.compute_surface_distances(reference, prediction, spacing_mm)
    for tolerance_mm in (0.5, 1.05, 2.45):  # no distances on these grids, where rounding would decide
        ours = class_metrics(prediction, reference, spacing_mm, MeasureRules(nsd_tolerance_mm=tolerance_mm))
        assert ours.nsd == pytest.approx(package.compute_surface_dice_at_tolerance(theirs, tolerance_mm), abs=1e-9)
    assert ours.hd95_mm == pytest.approx(package.compute_robust_hausdorff(theirs, 95), abs=1e-9)
    assert ours.dice == pytest.approx(package.compute_dice_coefficient(reference, prediction))


@pytest.mark.parametrize("spacing_mm", SPACINGS)
def test_the_area_of_every_neighbourhood_agrees_with_deepminds_table(spacing_mm: tuple[float, float, float]) -> None:
    tables = pytest.importorskip("surface_distance.lookup_tables")
    theirs = tables.create_table_neighbour_code_to_surface_area(spacing_mm)
    reversed_bits = [int(f"{code:08b}"[::-1], 2) for code in range(256)]  # they count the corners the other way round
    np.testing.assert_allclose(piece_areas_mm2(spacing_mm)[reversed_bits], theirs, atol=1e-6)


def test_a_distance_equal_to_the_tolerance_counts_in_spite_of_rounding() -> None:
    assert 7 * 0.7 - 6 * 0.7 > 0.7
    distances = surface_distances(plane(7), plane(6), (0.7, 1.0, 1.0))
    assert normalised_surface_distance(distances, 0.7) == 1
    assert normalised_surface_distance(distances, 0.69) < 1


def test_negative_tolerance_is_refused() -> None:
    distances = surface_distances(plane(4), plane(4), (1.0, 1.0, 1.0))
    with pytest.raises(ValueError, match="tolerance_mm must be 0 or more, got -1"):
        normalised_surface_distance(distances, -1)
