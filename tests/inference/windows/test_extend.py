from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.nn import functional

from moe_pipeline.imaging.crop_grid import CropGrid, WindowIndex
from moe_pipeline.imaging.geometry import Geometry
from moe_pipeline.imaging.volume import Volume
from moe_pipeline.inference.interactive.request import PromptRequest
from moe_pipeline.inference.interactive.segment_case import CaseResult, segment_case
from moe_pipeline.inference.options import PLAIN, SegmentOptions
from moe_pipeline.inference.windows.extend import boundary_contacts, connected, with_end_caps
from moe_pipeline.inference.windows.stitch import StitchedLogits, stitch
from moe_pipeline.mixture.model import Mixture
from moe_pipeline.model.foundation import Candidates
from moe_pipeline.prompts.prompt import Prompt
from moe_pipeline.records.foundation import View
from tests.phantoms.foundations import Follows, decoder_of

VOXEL = 2  # voxels
SURE = 4.0


def grid(shape: tuple[int, int, int]) -> Geometry:
    return Geometry(shape, (1.0, 1.0, 1.0), (-20.0, 7.0, 3.0))


def tube(shape: tuple[int, int, int]) -> NDArray[np.bool_]:
    """A bent tube of 3 x 3 low-resolution voxels along z, three crops of 16 voxels long."""
    mask = np.zeros([side // VOXEL for side in shape], dtype=bool)
    for z in range(mask.shape[2] - 1):
        x, y = round(6 + 3 * np.sin(z / 4)), round(6 + 2 * np.cos(z / 3))
        mask[x - 1 : x + 2, y - 1 : y + 2, z] = True
    return mask.repeat(VOXEL, 0).repeat(VOXEL, 1).repeat(VOXEL, 2)


def as_one_crop_would(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """What comes back where one crop holds everything: the low-resolution answer, interpolated, corners rounded."""
    low_res_voxels = torch.from_numpy(np.where(mask[::VOXEL, ::VOXEL, ::VOXEL], SURE, -SURE))[None, None]
    return (functional.interpolate(low_res_voxels, size=mask.shape, mode="trilinear")[0, 0] > 0).numpy()


def painted(mask: NDArray[np.bool_]) -> Volume:
    return Volume(np.where(mask, 100.0, 10.0).astype(np.float32), grid(mask.shape))


def segment(
    model: Mixture, image: Volume, *voxels: tuple[int, int, int], options: SegmentOptions = PLAIN
) -> CaseResult:
    clicks = image.geometry.voxel_to_world(np.array(voxels, dtype=float))
    prompt = Prompt(1, "tube", clicks, np.ones(len(voxels), np.int64), "prompts")
    return segment_case(model, PromptRequest("case", image, (prompt,)), options)


@pytest.fixture
def long_tube() -> NDArray[np.bool_]:
    return tube((28, 26, 56))


@pytest.mark.parametrize("end", [2, 28, 53])
def test_a_tube_three_crops_long_is_followed_to_both_ends(
    follower: Mixture, long_tube: NDArray[np.bool_], end: int
) -> None:
    click = tuple(np.argwhere(long_tube & (np.arange(56) == end))[0].tolist())
    result = segment(follower, painted(long_tube), click)
    assert np.array_equal(result.labels.array == 1, as_one_crop_would(long_tube))
    assert result.rows[0].message == ""


def test_one_crop_alone_ends_at_its_face(follower: Mixture, long_tube: NDArray[np.bool_]) -> None:
    click = tuple(np.argwhere(long_tube & (np.arange(56) == 28))[0].tolist())
    result = segment(follower, painted(long_tube), click, options=SegmentOptions(max_crops=1))
    slices = np.flatnonzero((result.labels.array == 1).any(axis=(0, 1)))
    assert len(slices) == 16  # the crop


def test_growth_that_is_cut_short_says_so(follower: Mixture, long_tube: NDArray[np.bool_]) -> None:
    click = tuple(np.argwhere(long_tube & (np.arange(56) == 2))[0].tolist())
    result = segment(follower, painted(long_tube), click, options=SegmentOptions(max_crops=2))
    assert "after 2 crops" in result.rows[0].message
    assert not (result.labels.array[:, :, 24:] == 1).any()  # a crop, and half a crop


def test_a_plate_wider_than_the_crop_on_two_axes_is_filled(follower: Mixture) -> None:
    plate = np.zeros((40, 44, 20), dtype=bool)
    plate[4:36, 4:40, 8:12] = True
    result = segment(follower, painted(plate), (20, 20, 9))
    assert np.array_equal(result.labels.array == 1, as_one_crop_would(plate))


def test_every_window_is_told_the_mask_so_far_and_a_place_inside(
    follower: Mixture, long_tube: NDArray[np.bool_]
) -> None:
    click = tuple(np.argwhere(long_tube & (np.arange(56) == 2))[0].tolist())
    segment(follower, painted(long_tube), click)
    asked = decoder_of(follower).asked
    assert asked[0] == (1, False)
    assert all(n_clicks >= 1 and with_mask for n_clicks, with_mask in asked[1:])
    assert len({n_clicks for n_clicks, _ in asked}) == 2  # its own, and where the user's is in view, that too


def test_what_does_not_touch_the_object_is_not_taken(greedy: Mixture) -> None:
    both = np.zeros((16, 16, 48), dtype=bool)
    both[2:6, 2:6, :30] = True
    other = np.zeros_like(both)
    other[10:14, 10:14, 20:] = True
    result = segment(greedy, painted(both | other), (4, 4, 2))
    assert np.array_equal(result.labels.array == 1, as_one_crop_would(both))


def test_an_object_that_ends_in_the_crop_costs_one_window(follower: Mixture) -> None:
    ball = np.zeros((40, 40, 40), dtype=bool)
    ball[16:24, 16:24, 16:24] = True
    segment(follower, painted(ball), (20, 20, 20))
    assert len(decoder_of(follower).asked) == 1


def test_a_click_out_of_reach_of_the_first_crop_opens_its_own(follower: Mixture) -> None:
    parts = np.zeros((16, 16, 64), dtype=bool)
    parts[4:8, 4:8, 4:10] = True
    parts[4:8, 4:8, 50:60] = True
    result = segment(follower, painted(parts), (5, 5, 6), (5, 5, 55))
    assert np.array_equal(result.labels.array == 1, as_one_crop_would(parts))


def test_connected_keeps_all_parts_where_no_seed_hits() -> None:
    mask = np.zeros((5, 5, 5), dtype=bool)
    mask[0, 0, 0] = mask[4, 4, 4] = True
    assert np.array_equal(connected(mask, np.array([[0, 0, 0]])), mask & (np.indices(mask.shape).sum(0) == 0))
    assert np.array_equal(connected(mask, np.array([[2, 2, 2]])), mask)
    assert np.array_equal(connected(mask, np.array([[9, 0, 0]])), mask)


def test_a_window_that_shows_something_else_is_not_taken_and_the_end_is_round(
    follower: Mixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    bar = np.zeros((16, 16, 48), dtype=bool)
    bar[2:14, 2:14, :] = True
    decoder = decoder_of(follower)
    answer = type(decoder).decode

    def loses_it(self: Follows, *inputs: Any) -> Candidates:
        said = answer(self, *inputs)
        return said if len(self.asked) == 1 else replace(said, logits=-said.logits)

    monkeypatch.setattr(type(decoder), "decode", loses_it)
    found = segment(follower, painted(bar), (8, 8, 3)).labels.array == 1
    assert len(decoder.asked) == 2
    areas = found.sum(axis=(0, 1))
    assert not areas[17:].any()
    assert 0 < areas[15] < areas[13] < areas[8]


CROP_GRID = CropGrid(Geometry((160, 140, 120), (1.0, 1.0, 1.0)), View(spacing_mm=1.0, size_voxels=64), (32,) * 3)
START = (4, 6, 0)


def with_tube(axis: int, start: WindowIndex = START, radius: float = 9.0) -> StitchedLogits:
    """A tube straight through one window."""
    first, second = np.meshgrid(np.arange(32) - 15.5, np.arange(32) - 15.5, indexing="ij")
    round_ = np.broadcast_to(first**2 + second**2 <= radius**2, (32, 32, 32))
    logits = np.where(np.moveaxis(round_, 0, axis), 4.0, -4.0).astype(np.float32)
    return stitch(CROP_GRID, {start: logits})


def test_faces_that_cut_the_mask_are_open_and_those_where_the_image_ends_are_not() -> None:
    through_x = with_tube(0)
    contacts = boundary_contacts(through_x, through_x.logits > 0, [START])
    assert [(contact.axis, contact.sign) for contact in contacts] == [(0, -1), (0, 1)]
    assert [contact.step(CROP_GRID) for contact in contacts] == [(0, 6, 0), (20, 6, 0)]  # the image begins at 0
    through_z = with_tube(2)
    contacts = boundary_contacts(through_z, through_z.logits > 0, [START])
    assert [(contact.axis, contact.sign) for contact in contacts] == [(2, 1)]  # the other one is where the image begins
    assert contacts[0].voxels.sum() == (through_z.logits[:, :, -1] > 0).sum()


def test_what_another_window_shows_is_not_open() -> None:
    one = with_tube(0).logits
    stitched = stitch(CROP_GRID, {START: one, (20, 6, 0): one})
    contacts = boundary_contacts(stitched, stitched.logits > 0, [START, (20, 6, 0)])
    assert [(contact.window, contact.sign) for contact in contacts] == [(START, -1), ((20, 6, 0), 1)]


def test_a_cap_is_round_and_ends_at_the_face() -> None:
    stitched = with_tube(1)
    contacts = [contact for contact in boundary_contacts(stitched, stitched.logits > 0, [START]) if contact.sign > 0]
    round_end = with_end_caps(stitched, contacts).logits > 0
    areas = round_end.sum(axis=(0, 2))[::-1]  # from the face inwards
    assert 0 < areas[0] < 0.5 * areas[-1]
    assert (np.diff(areas[:8]) >= 0).all()
    assert areas[7] > areas[3] > areas[0]
    assert (areas[8:] == areas[-1]).all()  # a quarter of the cube deep at most
    assert round_end[15, -1, 15]
    assert (stitched.logits > 0).sum(axis=(0, 2)).min() == areas[-1]  # the stitched logits itself is unchanged


def test_without_open_faces_nothing_changes() -> None:
    stitched = with_tube(1)
    assert np.array_equal(with_end_caps(stitched, []).logits, stitched.logits)
