import numpy as np
import pytest

from moe_pipeline.imaging.crop_grid import CropGrid
from moe_pipeline.imaging.geometry import Geometry
from moe_pipeline.inference.interactive.decoder_session import DecoderOutput
from moe_pipeline.inference.interactive.label_map import LabelMapBuilder, probability_map
from moe_pipeline.inference.interactive.mixture_mask import MixtureMask
from moe_pipeline.inference.windows.stitch import stitch
from moe_pipeline.records.foundation import View

GRID = Geometry((16, 12, 10), (1.0, 1.0, 1.0))
CROP_GRID = CropGrid(GRID, View(spacing_mm=1.0, size_voxels=16), (8,) * 3)


def answer(left: float, right: float) -> MixtureMask:
    """A mask with one logit on the image's left half along x and another on its right half."""
    logits = np.full((8, 8, 8), left, np.float32)
    logits[4:] = right
    stitched = stitch(CROP_GRID, {(0, 0, 0): logits})
    return MixtureMask(
        GRID, (DecoderOutput(stitched, stitched, complete=True, n_windows=1, spacing_mm=(1.0,) * 3),), 0.0
    )


def label_map(*objects: tuple[int, MixtureMask]) -> np.ndarray:
    builder = LabelMapBuilder(GRID, 2)
    for class_id, mask in objects:
        builder.add(class_id, mask)
    return np.asarray(builder.labels().array)


@pytest.mark.parametrize("swapped", [False, True])
def test_where_masks_overlap_the_more_probable_class_wins(swapped: bool) -> None:
    objects = [(1, answer(3.0, 1.0)), (2, answer(1.0, 3.0))]
    labels = label_map(*(objects[::-1] if swapped else objects))
    assert (labels[:8] == 1).all()
    assert (labels[8:] == 2).all()


def test_of_equal_masks_the_first_stays() -> None:
    assert (label_map((1, answer(2.0, 2.0)), (2, answer(2.0, 2.0))) == 1).all()
    assert (label_map((2, answer(2.0, 2.0)), (1, answer(2.0, 2.0))) == 2).all()


def test_what_is_less_probable_than_not_is_nobodys() -> None:
    labels = label_map((1, answer(-1.0, 3.0)))
    assert not labels[:7].any()
    assert (labels[9:] == 1).all()


def test_of_one_class_the_highest_probability_counts() -> None:
    highest = probability_map(GRID, [answer(2.0, 0.0), answer(0.0, 2.0)]).array
    assert set(highest[[0, -1]].ravel()) == {round(255 / (1 + np.exp(-2.0)))}
