"""From a made folder of TotalSegmentator's layout to the table, with a tiny foundation and few steps."""

import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from moe_pipeline.commands import reproduce
from moe_pipeline.commands.reproduce import NAME, ReproduceOptions, Reproduction, reproduce_totalsegmentator
from moe_pipeline.errors import DatasetError, PipelineError
from moe_pipeline.evaluation.forgetting import score
from moe_pipeline.model.sam.foundation import SamFoundation
from moe_pipeline.planning.plan_dataset import PlannedFiles, plan_dataset
from moe_pipeline.presets import PaperClasses, totalsegmentator_classes
from moe_pipeline.records.planning import Plan, Splits
from moe_pipeline.training.claims.learn_claims import ClaimSettings
from moe_pipeline.training.expert.session import FinetuneOptions
from moe_pipeline.training.gate.gate_run import GateOptions
from moe_pipeline.workspace import Workspace
from tests.phantoms.foundations import save_tiny
from tests.phantoms.images import write_file
from tests.phantoms.workspaces import PLANNED_VIEW, SMALL_PLAN

CLASSES = PaperClasses(finetuned={"spinal_cord": 0.296, "hip_right": None}, not_finetuned=("liver",))
PARTS = {"s0001": "train", "s0002": "train", "s0007": "train", "s0010": "val", "s0011": "test", "s0020": "test"}


def write_totalsegmentator(folder: Path) -> Path:
    """Cases with a tube, a ball and a block each, one binary file per structure, and one nobody asks for."""
    random = np.random.default_rng(0)
    x, y, z = np.indices((20, 18, 16))
    organs = {
        "spinal_cord": (x - 10) ** 2 + (y - 4) ** 2 <= 5,
        "hip_right": (x - 5) ** 2 + (y - 12) ** 2 + (z - 5) ** 2 <= 12,
        "liver": (x > 11) & (x < 17) & (y > 8) & (y < 15) & (z > 8) & (z < 13),
        "skull": np.zeros_like(x),
    }
    for case in PARTS:
        image = random.normal(0, 20, x.shape) + 200 * organs["spinal_cord"] + 400 * organs["hip_right"]
        write_file(folder / case / "ct.nii.gz", (image + 80 * organs["liver"]).astype(np.int16), (1.5, 1.5, 1.5))
        for name, mask in organs.items():
            write_file(folder / case / "segmentations" / f"{name}.nii.gz", mask.astype(np.uint8), (1.5, 1.5, 1.5))
    rows = ["image_id;age;gender;split", *(f"{case};50;f;{part}" for case, part in PARTS.items())]
    (folder / "meta.csv").write_text("\n".join(rows), encoding="utf-8-sig")
    return folder


def plan_briefly(*given: Any, **more: Any) -> PlannedFiles:
    files = plan_dataset(*given, **more)
    return replace(files, plan=files.plan.model_copy(update={**SMALL_PLAN, "copies_per_case": 1}))


@dataclass(frozen=True)
class Made:
    source: Path
    place: Workspace
    options: ReproduceOptions
    found: Reproduction


@pytest.fixture(scope="module")
def made(
    tmp_path_factory: pytest.TempPathFactory, small_foundation: SamFoundation, cheap_claims: ClaimSettings
) -> Made:
    folder = tmp_path_factory.mktemp("reproduce")
    source, place = write_totalsegmentator(folder / "Totalsegmentator_dataset_v201"), Workspace(folder / "ws")
    save_tiny(small_foundation, place.weights, PLANNED_VIEW)
    options = ReproduceOptions(
        classes=CLASSES,
        foundation="tiny",
        training=FinetuneOptions(epochs=1, click_proposer=None),
        gate=GateOptions(synthetic=2, claims=cheap_claims),
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reproduce, "plan_dataset", plan_briefly)
        return Made(source, place, options, reproduce_totalsegmentator(place, source, options))


def test_the_table_has_every_class_and_every_model(made: Made) -> None:
    table: Any = made.found.tables[1]
    assert not made.found.failures
    assert table["class"].tolist() == ["hip_right", "spinal_cord", "mean", "liver", "mean"]
    assert table["finetuned"].tolist() == ["yes", "yes", "yes", "no", "no"]
    assert table["n"].tolist() == [2, 2, 4, 2, 2]  # of the two test cases
    models = ["general", "expert", "sft", "mixture"]
    assert table[models].notna().all(axis=None)
    assert not table["general"].equals(table["expert"])
    assert table["gain"].tolist() == pytest.approx((table["mixture"] - table["general"]).tolist())
    assert table["published_gain"].dropna().tolist() == [0.296]
    written = pd.read_csv(made.place.root / "evaluation" / "table_1_click.csv")
    np.testing.assert_allclose(written[models], table[models], rtol=1e-6)
    page = (made.place.root / "evaluation" / "table.md").read_text()
    assert page == made.found.text
    assert "Mean Dice on 2 held-back cases (test cases (labelsTs)). Foundation: tiny" in page
    assert page.count("| spinal_cord |") == 1


def test_the_datasets_own_split_is_kept_and_only_its_classes_are_learnt(made: Made) -> None:
    (fold,) = Splits.load(made.place.splits(NAME)).folds
    assert (fold.train, fold.validation) == (("s0001", "s0002", "s0007"), ("s0010",))
    assert sorted(Plan.load(made.place.plan(NAME)).classes.values()) == ["hip_right", "spinal_cord"]


def test_again_it_does_nothing_twice(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("done again")

    monkeypatch.setattr(reproduce, "train_gate", refuse)
    monkeypatch.setattr(score, "segment_case", refuse)
    monkeypatch.setattr("moe_pipeline.training.expert.task.ExpertTask.loss", refuse)
    found = reproduce_totalsegmentator(made.place, made.source, made.options)
    assert found.text == made.found.text


def test_a_class_that_is_nowhere_and_a_workspace_of_another_model_are_refused(made: Made, tmp_path: Path) -> None:
    unknown = replace(made.options, classes=PaperClasses(finetuned={"hip_right": None, "tail": None}))
    with pytest.raises(DatasetError, match=r"no case has segmentations/tail\.nii\.gz; .* there are hip_right"):
        reproduce_totalsegmentator(Workspace(tmp_path / "new"), made.source, unknown)
    shutil.copytree(made.place.model, tmp_path / "ws" / "model")
    card = tmp_path / "ws" / "model" / "moe.json"
    card.write_text(card.read_text().replace(NAME, "Dataset004_Hippocampus"))
    with pytest.raises(PipelineError, match="a model of Dataset004_Hippocampus, which would be replaced"):
        reproduce_totalsegmentator(Workspace(tmp_path / "ws"), made.source, made.options)


def test_the_known_classes_are_those_of_the_abstract() -> None:
    known = totalsegmentator_classes()
    assert known.finetuned == {"spinal_cord": 0.296, "esophagus": 0.085, "hip_right": 0.112}
    with pytest.raises(ValueError, match="not_finetuned: hip_right is finetuned"):
        PaperClasses(finetuned={"hip_right": None}, not_finetuned=("hip_right",))
