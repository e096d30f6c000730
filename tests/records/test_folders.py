"""A folder that is not what was asked for is named as what it is, with a way to go on."""

from pathlib import Path

import pytest

from moe_pipeline.errors import RecordError
from moe_pipeline.records.experts import ExpertCard
from moe_pipeline.records.moe import ModelCard


def message(of: type[ModelCard] | type[ExpertCard], path: Path) -> str:
    with pytest.raises(RecordError) as error:
        of.load(path)
    return str(error.value)


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("{}")
    return path


def test_no_model_yet(tmp_path: Path) -> None:
    text = message(ModelCard, tmp_path / "model" / "moe.json")
    there = f"{tmp_path / 'model'}: no model there, since there is no moe.json."
    assert text.startswith(f"{there} Make one with `moe finetune DATASET` and then")
    for remedy in ("`moe train-gate DATASET`", "--model", "--foundation nano"):
        assert remedy in text
    (tmp_path / "model").mkdir()
    assert "no model in it" in message(ModelCard, tmp_path / "model" / "moe.json")


def test_a_workspace_that_does_not_exist(tmp_path: Path) -> None:
    text = message(ModelCard, tmp_path / "nowhere" / "model" / "moe.json")
    assert f"no folder {tmp_path / 'nowhere'} either (is --workspace right?)" in text


def test_an_expert_where_a_model_is_expected_and_the_other_way_round(tmp_path: Path) -> None:
    expert = touch(tmp_path / "experts" / "Dataset004_Hippo" / "expert.json").parent
    assert f"{expert}: an expert, not a model; `moe train-gate`" in message(ModelCard, expert / "moe.json")
    model = touch(tmp_path / "model" / "moe.json").parent
    assert f"{model}: a model, not an expert; `moe experts list" in message(ExpertCard, model / "expert.json")
    assert "no expert there; make one with `moe finetune" in message(ExpertCard, tmp_path / "e" / "expert.json")


def test_the_folder_around_a_model(tmp_path: Path) -> None:
    for inner in ("model", "imported"):
        folder = touch(tmp_path / inner / "ws" / inner / "moe.json").parent
        assert f"holds no moe.json, but {folder} does" in message(ModelCard, folder.parent / "moe.json")


def test_an_exported_model_that_is_not_unpacked(tmp_path: Path) -> None:
    archive = touch(tmp_path / "m.zip")
    assert f"unpack an exported model with `moe import {archive}`" in message(ModelCard, archive / "moe.json")


def test_a_card_that_is_there_but_broken_says_so(tmp_path: Path) -> None:
    for of, name in ((ModelCard, "moe.json"), (ExpertCard, "expert.json")):
        assert "not a valid" in message(of, touch(tmp_path / name))
