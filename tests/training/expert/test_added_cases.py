"""An expert goes on learning when cases were added; nothing else of its dataset may have changed."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import SimpleITK as sitk
import torch
from typer.testing import CliRunner

import moe_pipeline
from moe_pipeline.cli import app
from moe_pipeline.errors import DatasetError, PipelineError, StaleCacheError
from moe_pipeline.files import sha256_file
from moe_pipeline.planning.plan_dataset import plan_dataset
from moe_pipeline.records.experts import ExpertCard
from moe_pipeline.records.planning import Plan, Splits
from moe_pipeline.training.expert.finetune import FinetuneOptions, finetune
from moe_pipeline.weights.tensors import load_tensors
from moe_pipeline.workspace import Workspace
from tests.phantoms.images import write_phantom_dataset

NAME = "Dataset001_One"
OPTIONS = FinetuneOptions(epochs=2, click_proposer=None, continued=True)
FILES = ("expert.safetensors", "expert.json", "log.csv")


class PullsThePlug:
    """Ends a training before its second checkpoint."""

    def log(self, step: int, values: Mapping[str, float]) -> None:
        if step == 6:
            raise KeyboardInterrupt(str(values))

    def close(self) -> None: ...


@pytest.fixture
def grown(place: Workspace) -> Workspace:
    """Six cases were learnt from; two more lie beside them now."""
    write_phantom_dataset(place.raw(NAME), n_cases=8)
    return place


def test_added_cases_are_learnt_from_and_old_ones_stay_on_their_side(grown: Workspace, tmp_path: Path) -> None:
    plan, splits = Plan.load(grown.plan(NAME)), Splits.load(grown.splits(NAME))
    before = ExpertCard.load(grown.expert(NAME) / "expert.json")
    shutil.copytree(grown.root, tmp_path / "other", symlinks=True)
    card = moe_pipeline.finetune(NAME, epochs=2, click_proposer=False, continued=True, workspace=grown.root)
    assert isinstance(card, ExpertCard)
    assert card.continued_from_sha256 == before.weights_sha256
    assert card.plan_sha256 == Plan.load(grown.plan(NAME)).sha256() != plan.sha256()
    chosen = {"view", "channel", "classes", "class_weights", "crops_per_case", "copies_per_case", "epochs"}
    assert Plan.load(grown.plan(NAME)).model_dump(include=chosen) == plan.model_dump(include=chosen)
    for old, new in zip(splits.folds, Splits.load(grown.splits(NAME)).folds, strict=True):
        assert set(old.train) <= set(new.train)
        assert set(old.validation) <= set(new.validation)
        assert {*new.train, *new.validation} == {f"p{number:03d}" for number in range(8)}
    log = pd.read_csv(grown.expert(NAME) / "log.csv")
    assert list(log["step"]) == [0, 3, 6]  # the expert as it was is one of those to choose from
    assert card.validation["before_dice_1"] == pytest.approx(log["dice_1"][0])
    assert card.best_score == pytest.approx(log["score"].max())

    other = Workspace(tmp_path / "other")
    with pytest.raises(KeyboardInterrupt):
        finetune(other, other.raw(NAME), OPTIONS, loggers=[PullsThePlug()])
    assert ExpertCard.load(other.expert(NAME) / "expert.json") == before
    finetune(other, other.raw(NAME), OPTIONS)
    checkpoints = [load_tensors(at.expert(NAME) / "checkpoint.safetensors") for at in (other, grown)]
    assert all(torch.equal(tensor, checkpoints[1][name]) for name, tensor in checkpoints[0].items())
    made = {file: sha256_file(grown.expert(NAME) / file) for file in FILES}
    assert finetune(grown, grown.raw(NAME), OPTIONS) == card  # once more: it only checks
    assert {file: sha256_file(grown.expert(NAME) / file) for file in FILES} == made


def test_what_is_no_added_case_is_refused(place: Workspace) -> None:
    raw, plan_path = place.raw(NAME), place.plan(NAME)
    made = sha256_file(place.expert(NAME) / "expert.safetensors")
    with pytest.raises(DatasetError, match="has learnt from all cases that Dataset001_One has; add cases first"):
        finetune(place, raw, OPTIONS)
    with pytest.raises(PipelineError, match=r"--trainable all\) is trained anew"):
        moe_pipeline.finetune(NAME, trainable="all", continued=True, workspace=place.root)
    with pytest.raises(PipelineError, match="--overwrite begins anew; give one"):
        replace(OPTIONS, overwrite=True)
    refused = CliRunner().invoke(app, ["finetune", NAME, "--continue", "--overwrite", "--workspace", str(place.root)])
    assert "give one" in str(refused.exception)
    refused = CliRunner().invoke(app, ["experts", "update", "Dataset003_Three", "--workspace", str(place.root)])
    assert "has no expert Dataset003_Three" in str(refused.exception)
    plan = Plan.load(plan_path)
    plan.model_copy(update={"view": plan.view.model_copy(update={"spacing_mm": 3.0})}).save(plan_path)
    with pytest.raises(
        StaleCacheError, match=r"the view is .*spacing_mm=\(3\.0, .*, but the expert of fold 0 learnt with"
    ):
        finetune(place, raw, OPTIONS)
    plan.save(plan_path)
    card_path = place.expert(NAME) / "expert.json"
    card = ExpertCard.load(card_path)
    card.model_copy(update={"foundation_sha256": "0" * 64}).save(card_path)
    with pytest.raises(
        StaleCacheError, match=r"the foundation is .*, but the expert of fold 0 learnt with 000000000000"
    ):
        finetune(place, raw, OPTIONS)
    card.save(card_path)
    description = json.loads((raw / "dataset.json").read_text())
    labels = {"background": 0, "ball": 1, "rod": 3}
    (raw / "dataset.json").write_text(json.dumps(description | {"labels": labels}))
    with pytest.raises(DatasetError, match=r"class 3 was bar, dataset\.json now says rod"):
        finetune(place, raw, OPTIONS)
    (raw / "dataset.json").write_text(json.dumps(description))
    for path in (raw / "imagesTr" / "p001_0000.nii.gz", raw / "labelsTr" / "p001.nii.gz"):
        path.unlink()
    with pytest.raises(DatasetError, match="cases that the plan knows are gone: p001"):
        finetune(place, raw, OPTIONS)
    assert Plan.load(plan_path) == plan
    assert sha256_file(place.expert(NAME) / "expert.safetensors") == made


def test_a_class_that_nobody_had_before_joins_the_plan(grown: Workspace) -> None:
    raw = grown.raw(NAME)
    description = json.loads((raw / "dataset.json").read_text())
    named = description["labels"] | {"corner": 7}
    (raw / "dataset.json").write_text(json.dumps(description | {"labels": named}))
    path = str(raw / "labelsTr" / "p007.nii.gz")
    labels = sitk.ReadImage(path)
    labels[:4, :4, :4] = 7
    sitk.WriteImage(labels, path)
    card = finetune(grown, raw, replace(OPTIONS, epochs=1))
    assert card.classes == {1: "ball", 3: "bar", 7: "corner"}
    assert Plan.load(grown.plan(NAME)).class_weights[7] > 0
    assert plan_dataset(raw, grown.plans(NAME), "tiny", grown.weights).plan.classes == card.classes  # and stays
