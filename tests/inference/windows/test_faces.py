import numpy as np

from moe_pipeline.imaging.crop_grid import CropGrid, WindowIndex
from moe_pipeline.imaging.geometry import Geometry
from moe_pipeline.inference.windows.extend import boundary_contacts, with_end_caps
from moe_pipeline.inference.windows.stitch import StitchedLogits, stitch
from moe_pipeline.records.foundation import View

CROP_GRID = CropGrid(Geometry((160, 140, 120), (1.0, 1.0, 1.0)), View(spacing_mm=1.0, size_voxels=64), 32)
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
