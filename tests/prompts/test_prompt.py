from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from moe_pipeline.errors import PromptError, RecordError
from moe_pipeline.imaging.geometry import Geometry
from moe_pipeline.imaging.volume import Volume
from moe_pipeline.inference.interactive.request import PromptRequest
from moe_pipeline.inference.interactive.segment_case import segment_case
from moe_pipeline.inference.windows.embedding_cache import CropBank
from moe_pipeline.mixture.model import Mixture
from moe_pipeline.prompts.prompt import INSIDE, OUTSIDE, DensePrompt, Prompt, objects_in_world
from moe_pipeline.records.prompts import ObjectPrompt, PromptFile
from tests.phantoms.foundations import decoder_of

FLIPPED = (-1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 1.0, 0.0)  # index axes run left, superior, anterior
GRID = Geometry((10, 20, 30), (1.0, 2.0, 3.0), (5.0, -7.0, 11.0), FLIPPED)


def placed(space: str, point: tuple[float, float, float]) -> list[Prompt]:
    prompt = ObjectPrompt(class_id=2, class_name="organ", points=(point,), labels=(1,))
    return objects_in_world([prompt], space, GRID, "case in prompts.json")  # type: ignore[arg-type]


def test_all_spaces_mean_the_same_place() -> None:
    voxel = (3.0, 4.0, 5.0)
    world = GRID.voxel_to_world(np.array([voxel]))[0]  # RAS
    lps = (-world[0], -world[1], world[2])
    places = [
        placed("voxel_xyz", voxel),
        placed("array_zyx", (5.0, 4.0, 3.0)),
        placed("world_lps_mm", lps),
    ]
    for prompts in places:
        assert np.allclose(prompts[0].clicks_mm[0], world)
    assert np.allclose(world, (5.0 - 3.0, -7.0 + 15.0, 11.0 + 8.0))  # worked out by hand


def test_a_click_outside_the_image_is_refused() -> None:
    with pytest.raises(PromptError, match=r"case in prompts.json: click .* lies outside the image, at voxel"):
        placed("voxel_xyz", (3.0, 20.0, 5.0))


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ('{"class_id": 1, "points": [[1,2,3]], "labels": [1, 0]}', "1 points but 2 labels"),
        ('{"class_id": 1, "points": [[1,2,3]], "labels": [0]}', "at least one click must lie inside"),
        ('{"class_id": 0, "points": [[1,2,3]], "labels": [1]}', "class_id"),
        ('{"class_id": 1, "points": [[1,2,3]], "labels": [1], "lables": []}', "Extra inputs"),
        ('{"class_id": 1, "points": [[1,NaN,3]], "labels": [1]}', "NaN is no number"),
        ('{"class_id": 1, "points": [[1,2,-Infinity]], "labels": [1]}', "-Infinity is no number"),
    ],
)
def test_a_faulty_file_is_refused_with_its_name(tmp_path: Path, prompt: str, message: str) -> None:
    path = tmp_path / "prompts.json"
    path.write_text(f'{{"space": "voxel_xyz", "cases": {{"case": [{prompt}]}}}}')
    with pytest.raises(RecordError, match=message) as error:
        PromptFile.load(path)
    assert str(path) in str(error.value)


CUBOID = Geometry((32, 16, 16), (1.0, 1.0, 1.0))


def labelled(box: tuple[slice, slice, slice], grid: Geometry = CUBOID) -> Volume:
    array = np.zeros(grid.shape, np.uint8)
    array[box] = 5
    return Volume(array, grid)


@pytest.fixture
def image() -> Volume:
    bright = np.where(labelled((slice(4, 10), slice(4, 10), slice(4, 10))).array, 100.0, 0.0)
    return Volume(bright.astype(np.float32), CUBOID)


def ball_with(dense: DensePrompt | None) -> Prompt:
    place = CUBOID.voxel_to_world([[6.0, 6.0, 6.0]])
    return Prompt(5, "ball", place, np.array([1]), "mask", dense=dense)


def test_cells_say_how_much_of_them_the_mask_fills(follower: Mixture, image: Volume) -> None:
    crop_grid = CropBank(image, follower.foundation, torch.device("cpu")).crop_grid(follower.view)
    dense = DensePrompt(labelled((slice(0, 3), slice(0, 4), slice(0, 16))), 5)
    logits = dense.logits(crop_grid, (0, 0, 0))  # low-resolution voxels of 2 voxels
    assert np.allclose(logits[0, :2], INSIDE)
    assert np.allclose(logits[1, :2], (INSIDE + OUTSIDE) / 2)
    assert np.allclose(logits[2:], OUTSIDE)
    assert np.allclose(DensePrompt(dense.labels, 4).logits(crop_grid, (0, 0, 0)), OUTSIDE)


def test_a_mask_may_lie_on_another_grid(follower: Mixture, image: Volume) -> None:
    crop_grid = CropBank(image, follower.foundation, torch.device("cpu")).crop_grid(follower.view)
    coarse = Geometry((4, 4, 4), (4.0, 4.0, 4.0), (1.5, 1.5, 1.5))  # the same corner
    here = DensePrompt(labelled((slice(4, 8), slice(0, 8), slice(8, 12))), 5)
    there = DensePrompt(labelled((slice(1, 2), slice(0, 2), slice(2, 3)), coarse), 5)
    assert np.array_equal(here.logits(crop_grid, (0, 0, 0)), there.logits(crop_grid, (0, 0, 0)))


def test_the_decoder_begins_with_the_mask_and_otherwise_with_nothing(follower: Mixture, image: Volume) -> None:
    request = PromptRequest("case", image, (ball_with(None),))
    segment_case(follower, request)
    segment_case(follower, replace(request, prompts=(ball_with(DensePrompt(labelled((slice(0, 9),) * 3), 5)),)))
    asked = decoder_of(follower).asked
    assert [any_mask for _, any_mask in asked] == [False, True]
