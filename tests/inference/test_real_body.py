"""A real object that is several crops long: the body in a CT, by a decoder that takes what is denser than air."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from moe_pipeline.imaging.crop_grid import CropGrid
from moe_pipeline.imaging.io.files import read_volume
from moe_pipeline.imaging.overlap import dice
from moe_pipeline.imaging.resampling import resample
from moe_pipeline.imaging.volume import Volume
from moe_pipeline.inference.interactive.request import PromptRequest
from moe_pipeline.inference.interactive.segment_case import CaseResult, segment_case
from moe_pipeline.inference.options import SegmentOptions
from moe_pipeline.mixture.model import Mixture
from moe_pipeline.prompts.prompt import Prompt
from moe_pipeline.records.foundation import View

VIEW = View(spacing_mm=6.0, size_voxels=16)  # cubes of 96 mm: the body is four of them wide and three high


@pytest.fixture
def ct(real_data: Path) -> Volume:
    return read_volume(real_data / "TotalSegmentator_ref" / "example_ct.nii.gz")


def segment(model: Mixture, image: Volume, voxels: np.ndarray) -> CaseResult:
    clicks = image.geometry.voxel_to_world(voxels.astype(float))
    prompt = Prompt(1, "", clicks, np.ones(len(voxels), np.int64), "prompts")
    options = SegmentOptions(max_crops=400, keep_answers=True)
    return segment_case(model, PromptRequest("ct", image, (prompt,)), options)


def test_a_body_is_filled_without_an_edge_at_any_crop(
    follower: Mixture, ct: Volume, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("moe_pipeline.imaging.views.normalise", lambda crop, *_: crop + 300.0)  # denser than air
    model = replace(follower, view=VIEW)
    result = segment(model, ct, np.array([[60, 50, 56]]))
    output = result.answers[1][0].output[0]
    crop_grid = CropGrid(ct.geometry, VIEW, (8,) * 3)
    low_res_voxels = resample(ct, crop_grid.voxels, order="linear", outside=-1000.0).array + 300.0
    sides = [side // 2 * 2 for side in low_res_voxels.shape]
    blocks = low_res_voxels[: sides[0], : sides[1], : sides[2]].reshape(*np.array([[s // 2, 2] for s in sides]).ravel())
    dense = blocks.mean(axis=(1, 3, 5)) > 0
    numbers, _ = ndimage.label(dense, np.ones((3, 3, 3)))
    body = numbers == np.bincount(numbers[numbers > 0]).argmax()
    box = ((0, body.shape[0]), (0, body.shape[1]), (0, body.shape[2]))
    found = output.stitched.read(box, output.stitched.logits, fill=-1.0) > 0
    assert output.complete
    assert output.n_windows > 50
    assert dice(found, body) > 0.99  # as if one crop had held all of it
