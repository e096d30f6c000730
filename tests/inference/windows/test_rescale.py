from dataclasses import replace

import numpy as np
import pytest

from moe_pipeline.imaging.crop_grid import CropGrid
from moe_pipeline.imaging.geometry import Geometry
from moe_pipeline.imaging.volume import Volume
from moe_pipeline.inference.interactive.request import PromptRequest
from moe_pipeline.inference.interactive.segment_case import CaseResult, segment_case
from moe_pipeline.inference.options import PLAIN, SegmentOptions
from moe_pipeline.inference.windows.rescale import (
    closer_view,
    farther_views,
    finer_views,
    is_wide,
    mean_of_views,
    onto_crop_grid,
)
from moe_pipeline.inference.windows.stitch import StitchedLogits, stitch
from moe_pipeline.inference.windows.to_image import logits_in
from moe_pipeline.mixture.model import Mixture
from moe_pipeline.presets import zoom_steps_mm
from moe_pipeline.prompts.prompt import Prompt
from moe_pipeline.records.foundation import View

VIEW = View(spacing_mm=1.5, size_voxels=16, normalisation="zscore_clipped")
IMAGE = Geometry((80, 72, 64), (1.0, 1.0, 1.0))
SEED = np.array([[10, 10, 10]])


def stitched_with(first: tuple[int, int, int], last: tuple[int, int, int], view: View = VIEW) -> StitchedLogits:
    """One window from low-resolution voxel (6, 6, 6) on, with an object from the first to before the last of it."""
    logits = np.full((8, 8, 8), -4.0, np.float32)
    logits[tuple(slice(a, b) for a, b in zip(first, last, strict=True))] = 4.0
    return stitch(CropGrid(IMAGE, view, (8,) * 3), {(6, 6, 6): logits})


def test_a_small_object_is_seen_in_the_finest_view_that_it_does_not_fill_too_much() -> None:
    found = closer_view(stitched_with((3, 3, 3), (4, 4, 4)), SEED)
    assert found is not None
    view, middle_mm = found
    assert (
        view.edges_mm == (0.75,) * 3
    )  # a low-resolution voxel of 3 mm is 0.25 of 16 voxels of 0.75 mm, but 0.375 of those of 0.5 mm
    crop_grid = CropGrid(IMAGE, VIEW, (8,) * 3)
    assert np.allclose(crop_grid.geometry.world_to_voxel(middle_mm), 9.0)


@pytest.mark.parametrize(
    ("first", "last"),
    [((3, 3, 3), (6, 4, 4)), ((3, 3, 3), (3, 3, 3))],
    ids=["larger than a quarter of the cube", "nothing found"],
)
def test_other_objects_are_not_looked_at_again(first: tuple[int, int, int], last: tuple[int, int, int]) -> None:
    assert closer_view(stitched_with(first, last), SEED) is None


def test_there_is_nothing_finer_than_the_finest_view() -> None:
    finest = VIEW.model_copy(update={"spacing_mm": zoom_steps_mm()[0]})
    assert closer_view(stitched_with((3, 3, 3), (4, 4, 4), finest), np.array([[9, 9, 9]])) is None


def test_wide_is_what_touches_two_opposite_cut_faces() -> None:
    assert is_wide(stitched_with((0, 3, 3), (8, 5, 5)), SEED)
    assert not is_wide(stitched_with((0, 3, 3), (7, 5, 5)), SEED)
    logits = np.full((8, 8, 8), 4.0, np.float32)
    at_the_end = stitch(CropGrid(Geometry((24, 24, 24), (1.0,) * 3), VIEW, (8,) * 3), {(0, 0, 0): logits})
    assert not is_wide(at_the_end, np.array([[4, 4, 4]]))  # the image ends there too


def test_coarser_views_come_finest_first() -> None:
    assert [view.edges_mm for view in farther_views(CropGrid(IMAGE, VIEW, (8,) * 3))] == [(2.0,) * 3, (3.0,) * 3]


def test_steps_of_unequal_spacings_keep_their_proportions() -> None:
    flat = CropGrid(IMAGE, View(spacing_mm=(1, 1, 3), size_voxels=(32, 32, 8)), (8,) * 3)
    assert [view.edges_mm for view in finer_views(flat)] == [(0.5, 0.5, 1.5), (0.75, 0.75, 2.25)]
    assert farther_views(flat)[0].edges_mm == (1.5, 1.5, 4.5)


def test_nearer_than_the_whole_image_are_its_own_voxels_and_nothing_is_farther() -> None:
    fitted = CropGrid(IMAGE, View(spacing_mm="fitted", size_voxels=(32, 32, 8)), (8,) * 3)
    logits = np.full((8, 8, 8), -4.0, np.float32)
    logits[2:3, 4:5, 4:5] = 4.0  # 10 x 9 x 8 mm
    found = closer_view(stitch(fitted, {(0, 0, 0): logits}), np.array([[2, 4, 4]]))
    assert found is not None
    assert found[0].spacing_mm == "native"
    assert np.allclose(
        found[1], (24.5, 40, 35.5)
    )  # the middle of 20 to 30, 36 to 45 and 32 to 40 mm, less half a voxel
    assert farther_views(fitted) == []
    small = CropGrid(Geometry((20, 20, 4), (1.0, 1.0, 1.0)), fitted.view, (8,) * 3)
    assert finer_views(small) == []


def test_a_coarse_stitched_logits_is_interpolated_on_finer_cells() -> None:
    coarse = stitched_with((2, 2, 2), (6, 6, 6), VIEW.model_copy(update={"spacing_mm": 3.0}))
    crop_grid = CropGrid(IMAGE, VIEW, (8,) * 3)
    fine = onto_crop_grid(coarse, crop_grid)
    assert fine.crop_grid is crop_grid
    place = fine.read(fine.box, fine.logits, fill=0.0)
    assert np.allclose(place, logits_in(coarse, crop_grid.geometry, fine.box, 0.0))
    assert np.isclose((fine.logits > 0).sum(), 8 * (coarse.logits > 0).sum(), rtol=0.4)


CENTRE = 38.5, 38.5, 32.5  # the middle of a low-resolution voxel of 6 mm


def ball_of(radius: float) -> Volume:
    x, y, z = np.indices(IMAGE.shape)
    inside = (x - CENTRE[0]) ** 2 + (y - CENTRE[1]) ** 2 + (z - CENTRE[2]) ** 2 <= radius**2
    return Volume(np.where(inside, 100.0, 10.0).astype(np.float32), IMAGE)


def segment(model: Mixture, image: Volume, options: SegmentOptions = PLAIN) -> CaseResult:
    prompt = Prompt(1, "ball", np.array([CENTRE]), np.array([1]), "prompts")
    return segment_case(model, PromptRequest("case", image, (prompt,)), options)


def overlap(result: CaseResult, image: Volume) -> float:
    found, true = result.labels.array == 1, image.array > 50
    return 2 * float((found & true).sum()) / float(found.sum() + true.sum())


def test_a_closer_look_draws_a_small_ball_better(follower: Mixture) -> None:
    coarse = replace(follower, view=VIEW.model_copy(update={"spacing_mm": 3.0}))
    ball = ball_of(4.0)
    once = segment(coarse, ball)
    closer = segment(coarse, ball, SegmentOptions(zoom="auto"))
    assert overlap(closer, ball) > overlap(once, ball) + 0.03


def test_a_wide_ball_is_first_seen_from_farther_away_and_then_drawn_in_its_own_view(follower: Mixture) -> None:
    model = replace(follower, view=VIEW.model_copy(update={"spacing_mm": 1.0}))
    ball = ball_of(18.0)
    result = segment(model, ball, SegmentOptions(zoom="out"))
    assert overlap(result, ball) > 0.97
    assert result.rows[0].message == ""


def test_where_no_more_crops_are_allowed_the_coarse_answer_stays(follower: Mixture) -> None:
    model = replace(follower, view=VIEW.model_copy(update={"spacing_mm": 1.0}))
    ball = ball_of(18.0)
    alone = segment(model, ball, SegmentOptions(max_crops=1))
    coarse = segment(model, ball, SegmentOptions(zoom="out", max_crops=1))
    assert overlap(alone, ball) < 0.5  # one crop of 16 mm
    assert overlap(coarse, ball) > 0.9


def test_where_the_first_look_does_not_reach_the_closer_one_stands_alone() -> None:
    first = stitched_with((0, 0, 0), (8, 8, 8))
    crop_grid = CropGrid(IMAGE, VIEW.model_copy(update={"spacing_mm": 0.75}), (8,) * 3)
    start = crop_grid.around(first.geometry.voxel_to_world(np.full(3, -0.5)))  # half of it is outside
    mixed = mean_of_views(np.full((8, 8, 8), -2.0, np.float32), crop_grid, start, first)
    assert set(np.unique(mixed)) == {-2.0, 1.0}
    assert (mixed == 1.0).sum() == 4**3
