from dataclasses import replace

import numpy as np
import pytest
import torch

from moe_pipeline.imaging.geometry import Geometry
from moe_pipeline.imaging.volume import Volume
from moe_pipeline.inference.interactive.request import PromptRequest
from moe_pipeline.inference.interactive.segment_case import segment_case
from moe_pipeline.inference.windows.embedding_cache import CropBank
from moe_pipeline.mixture.model import Mixture
from moe_pipeline.prompts.prompt import INSIDE, OUTSIDE, DensePrompt, Prompt

GRID = Geometry((32, 16, 16), (1.0, 1.0, 1.0))


def labels(box: tuple[slice, slice, slice], grid: Geometry = GRID) -> Volume:
    array = np.zeros(grid.shape, np.uint8)
    array[box] = 5
    return Volume(array, grid)


@pytest.fixture
def image() -> Volume:
    bright = np.where(labels((slice(4, 10), slice(4, 10), slice(4, 10))).array, 100.0, 0.0)
    return Volume(bright.astype(np.float32), GRID)


def prompt(dense: DensePrompt | None) -> Prompt:
    place = GRID.voxel_to_world([[6.0, 6.0, 6.0]])
    return Prompt(5, "ball", place, np.array([1]), "mask", dense=dense)


def test_cells_say_how_much_of_them_the_mask_fills(follower: Mixture, image: Volume) -> None:
    crop_grid = CropBank(image, follower.foundation, torch.device("cpu")).crop_grid(follower.view)
    dense = DensePrompt(labels((slice(0, 3), slice(0, 4), slice(0, 16))), 5)
    logits = dense.logits(crop_grid, (0, 0, 0))  # low-resolution voxels of 2 voxels
    assert np.allclose(logits[0, :2], INSIDE)
    assert np.allclose(logits[1, :2], (INSIDE + OUTSIDE) / 2)
    assert np.allclose(logits[2:], OUTSIDE)
    assert np.allclose(DensePrompt(dense.labels, 4).logits(crop_grid, (0, 0, 0)), OUTSIDE)


def test_a_mask_may_lie_on_another_grid(follower: Mixture, image: Volume) -> None:
    crop_grid = CropBank(image, follower.foundation, torch.device("cpu")).crop_grid(follower.view)
    coarse = Geometry((4, 4, 4), (4.0, 4.0, 4.0), (1.5, 1.5, 1.5))  # the same corner
    here = DensePrompt(labels((slice(4, 8), slice(0, 8), slice(8, 12))), 5)
    there = DensePrompt(labels((slice(1, 2), slice(0, 2), slice(2, 3)), coarse), 5)
    assert np.array_equal(here.logits(crop_grid, (0, 0, 0)), there.logits(crop_grid, (0, 0, 0)))


def test_the_decoder_begins_with_the_mask_and_otherwise_with_nothing(follower: Mixture, image: Volume) -> None:
    request = PromptRequest("case", image, (prompt(None),))
    segment_case(follower, request)
    segment_case(follower, replace(request, prompts=(prompt(DensePrompt(labels((slice(0, 9),) * 3), 5)),)))
    asked = follower.foundation.decoder.asked  # type: ignore[attr-defined]
    assert [any_mask for _, any_mask in asked] == [False, True]
