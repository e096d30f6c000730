import numpy as np

from moe_pipeline.imaging.crop_grid import CropGrid
from moe_pipeline.imaging.geometry import Geometry
from moe_pipeline.inference.windows.stitch import stitch
from moe_pipeline.records.foundation import View

CROP_GRID = CropGrid(Geometry((64, 48, 40), (1.0, 1.0, 1.0)), View(spacing_mm=1.0, size_voxels=16), (8,) * 3)


def cubes(*values: float) -> list[np.ndarray]:
    return [np.full((8, 8, 8), value, np.float32) for value in values]


def test_one_window_stays_as_it_is() -> None:
    logits = np.random.default_rng(0).normal(size=(8, 8, 8)).astype(np.float32)
    stitched = stitch(CROP_GRID, {(2, 3, 1): logits})
    assert np.array_equal(stitched.logits, logits)
    assert stitched.box == ((2, 10), (3, 11), (1, 9))


def test_two_windows_pass_into_each_other_without_a_step() -> None:
    one, two = cubes(4.0, -4.0)
    stitched = stitch(CROP_GRID, {(0, 0, 0): one, (4, 0, 0): two})
    along = stitched.logits[:, 4, 4]
    assert along[:4].tolist() == [4.0] * 4
    assert along[8:].tolist() == [-4.0] * 4
    steps = np.diff(along[3:9])
    assert (steps < 0).all()
    assert steps.min() > -3.5  # of 8: the change is spread over the overlap
    assert abs(along[5] + along[6]) < 1e-5  # as far from one face as from the other


def test_where_nobody_was_asked_it_is_as_where_the_object_is_not() -> None:
    one, two = cubes(-2.0, 4.0)
    stitched = stitch(CROP_GRID, {(0, 0, 0): one, (8, 8, 0): two})
    assert stitched.logits[0, 12, 4] == -2.0
    assert not stitched.known[0, 12, 4]
    assert stitched.known.sum() == 2 * 8**3


def test_read_fills_what_is_not_held() -> None:
    (one,) = cubes(1.0)
    stitched = stitch(CROP_GRID, {(2, 2, 2): one})
    box = ((0, 4), (2, 4), (9, 12))
    values = stitched.read(box, stitched.logits, fill=7.0)
    assert values.shape == (4, 2, 3)
    assert values[2:, :, 0].tolist() == [[1.0, 1.0], [1.0, 1.0]]
    assert (values[:2] == 7.0).all()
    assert (values[:, :, 1:] == 7.0).all()
    assert (stitched.read(((40, 44), (0, 4), (0, 4)), stitched.logits, fill=7.0) == 7.0).all()


def test_a_coarser_answer_shows_beside_the_windows_and_hardly_through_them() -> None:
    prior = stitch(CROP_GRID, dict(zip([(0, 0, 0), (8, 0, 0)], cubes(-1.0, -1.0), strict=True)))
    (one,) = cubes(5.0)
    stitched = stitch(CROP_GRID, {(0, 0, 0): one}, prior=prior)
    assert np.allclose(stitched.logits[8:], -1.0)
    assert not stitched.known[8:].any()
    assert stitched.logits[4, 4, 4] > 4.9
    assert stitched.logits[7, 4, 4] < stitched.logits[4, 4, 4]


def test_a_window_without_clicks_counts_less_where_one_with_clicks_has_an_answer() -> None:
    one, two = cubes(4.0, -4.0)
    stitched = stitch(CROP_GRID, {(0, 0, 0): one}, {(4, 0, 0): two})
    along = stitched.logits[:, 4, 4]
    assert (np.diff(along[3:9]) < 0).all()
    assert along[5] > 0 > along[7]  # as far from both faces is between 5 and 6; the change is later
    assert along[8:].tolist() == [-4.0] * 4
