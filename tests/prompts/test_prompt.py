from pathlib import Path

import numpy as np
import pytest

from moe_pipeline.errors import PromptError, RecordError
from moe_pipeline.imaging.geometry import Geometry
from moe_pipeline.prompts.prompt import Prompt, objects_in_world
from moe_pipeline.records.prompts import ObjectPrompt, PromptFile

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
        ('{"class_id": 1, "points": [[1,NaN,3]], "labels": [1]}', r"points\.0\.1: .*finite"),
        ('{"class_id": 1, "points": [[1,2,-Infinity]], "labels": [1]}', r"points\.0\.2: .*finite"),
    ],
)
def test_a_faulty_file_is_refused_with_its_name(tmp_path: Path, prompt: str, message: str) -> None:
    path = tmp_path / "prompts.json"
    path.write_text(f'{{"space": "voxel_xyz", "cases": {{"case": [{prompt}]}}}}')
    with pytest.raises(RecordError, match=message) as error:
        PromptFile.load(path)
    assert str(path) in str(error.value)
