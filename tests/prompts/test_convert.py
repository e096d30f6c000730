"""Every format into every other one and back, through files."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from moe_pipeline.errors import PromptError
from moe_pipeline.prompts.convert import TARGETS, convert_prompts
from moe_pipeline.prompts.read import read_prompts
from moe_pipeline.records.prompts import ObjectPrompt, PromptFile

ENDINGS = {"prompts.json": "scan.json", "mrk.json": "scan.mrk.json", "fcsv": "scan.fcsv", "napari": "scan.csv"}


@pytest.fixture
def start(tmp_path: Path, tools: Any) -> Path:
    one = ObjectPrompt(class_id=1, class_name="L-2 neg", points=tools.VOXELS[:2], labels=(0, 1))
    two = ObjectPrompt(class_id=9, points=tools.VOXELS[2:], labels=(1,))
    three = ObjectPrompt(class_id=1, class_name="L-2 neg", points=tools.VOXELS[1:2], labels=(1,))
    PromptFile(space="voxel_xyz", cases={"scan": (one, two, three)}).save(tmp_path / "scan.json")
    return tmp_path / "scan.json"


@pytest.mark.parametrize("first", TARGETS)
@pytest.mark.parametrize("second", TARGETS)
def test_there_and_on(
    first: str, second: str, start: Path, write_scan: Callable[..., Any], tools: Any, tmp_path: Path
) -> None:
    scan = write_scan(tools.directions()[29], oblique=True)
    for folder, target in (("first", first), ("second", second)):
        out = tmp_path / folder / ENDINGS[target]
        assert convert_prompts(start, target, out, scan.path) == {}
        start = out
    before = PromptFile.load(tmp_path / "scan.json").cases["scan"]
    after = read_prompts(start, ["scan"]).of_case("scan", scan.geometry)
    assert tools.same_voxels(after, scan.geometry) == [tuple(p) for prompt in before for p in prompt.points]
    assert [(p.class_id, p.class_name, p.labels.tolist()) for p in after] == [
        (prompt.class_id, prompt.class_name, list(prompt.labels)) for prompt in before
    ]


def test_a_box_survives_what_can_hold_it(write_scan: Callable[..., Any], tools: Any, tmp_path: Path) -> None:
    scan = write_scan(tools.directions()[5])
    box = (1.0, 2.0, 0.0), (4.0, 6.0, 3.0)
    prompt = ObjectPrompt(class_id=3, class_name="x", box=box)
    PromptFile(space="voxel_xyz", cases={"scan": (prompt,)}).save(tmp_path / "scan.json")
    convert_prompts(tmp_path / "scan.json", "mrk.json", tmp_path / "a.mrk.json", scan.path)
    convert_prompts(tmp_path / "a.mrk.json", "prompts.json", tmp_path / "b.json", scan.path)
    (after,) = read_prompts(tmp_path / "b.json", ["scan"]).of_case("scan", scan.geometry)
    voxels = scan.geometry.world_to_voxel(after.box_mm)
    assert np.allclose((voxels.min(axis=0), voxels.max(axis=0)), box, atol=1e-4)
    for target, words in (("fcsv", "holds no boxes"), ("napari", "a points layer holds no boxes")):
        failed = convert_prompts(tmp_path / "b.json", target, tmp_path / "out", scan.path)
        assert words in failed["scan"]


def test_no_image_is_needed_where_nothing_is_computed(tmp_path: Path, tools: Any) -> None:
    tools.slicer_fcsv(tmp_path / "a.fcsv", [(1.5, -2.25, 3.0)], ["liver-1"], "RAS")
    assert convert_prompts(tmp_path / "a.fcsv", "prompts.json", tmp_path / "a.json") == {}
    made = PromptFile.load(tmp_path / "a.json")
    assert (made.space, made.cases["a"][0].points) == ("world_lps_mm", ((1.5, -2.25, 3.0),))
    with pytest.raises(PromptError, match=r"nothing could be converted: a: .*there is no image a.*Give --images"):
        convert_prompts(tmp_path / "a.fcsv", "napari", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_case_that_cannot_be_converted_is_named(tmp_path: Path, tools: Any) -> None:
    (tmp_path / "in").mkdir()
    tools.slicer_json(tmp_path / "in" / "a.mrk.json", [(1.0, 2.0, 3.0)], ["x"])
    (tmp_path / "in" / "b.mrk.json").write_text("{}")
    failed = convert_prompts(tmp_path / "in", "fcsv", tmp_path / "out")
    assert list(failed) == ["b"]
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a.fcsv"]


def test_wrong_targets_are_refused(tmp_path: Path, tools: Any) -> None:
    for name in ("a", "b"):
        tools.slicer_json(tmp_path / f"{name}.mrk.json", [(1.0, 2.0, 3.0)], ["x"])
    with pytest.raises(PromptError, match=r"--to npz: cannot be written; expected one of prompts\.json"):
        convert_prompts(tmp_path, "npz", tmp_path / "out")
    with pytest.raises(PromptError, match="one file, but there are 2 cases"):
        convert_prompts(tmp_path, "fcsv", tmp_path / "out.fcsv")
