"""The commands as Python functions: what they are given is checked, and they do what the command line does."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import moe_pipeline
from moe_pipeline.errors import PipelineError
from moe_pipeline.records.planning import Plan
from moe_pipeline.workspace import Workspace

ONE, TWO = "Dataset001_One", "Dataset002_Two"


@pytest.mark.parametrize(
    ("function", "given", "message"),
    [
        ("plan", {"dataset": None}, "dataset: expected a path, found NoneType None"),
        ("plan", {"dataset": 7}, "7 in .*raw: no such dataset; there are: Dataset001_One"),
        ("plan", {"dataset": 1, "seed": "0"}, "seed: expected a whole number, found str '0'"),
        ("plan", {"dataset": 1, "skip_faulty": 1}, "skip_faulty: expected True or False, found int 1"),
        ("plan", {"dataset": 1, "foundation": "micro"}, "micro"),
        ("finetune", {"dataset": 1, "trainable": "most"}, "trainable: no trainable 'most'; there are: decoder, all"),
        ("finetune", {"dataset": 1, "precision": "fp8"}, "precision: no precision 'fp8'"),
        ("finetune", {"dataset": 1, "epochs": 0}, "epochs: expected at least 1, found 0"),
        ("finetune", {"dataset": 1, "max_minutes": -1}, "max_minutes: expected more than 0, found -1"),
        (
            "finetune",
            {"dataset": 1, "learning_rate": float("nan")},
            "learning_rate: expected a number, found float nan",
        ),
        ("finetune", {"dataset": "Three"}, "Three in .*raw: no such dataset"),
        ("train_gate", {"datasets": "One,Two"}, "One,Two in .*raw: no such dataset"),
        ("train_gate", {"datasets": [1, None]}, "datasets: expected a path, found NoneType None"),
        ("train_gate", {"datasets": 1, "general": 2.5}, "general: expected a path, found float 2.5"),
        ("train_gate", {"datasets": 1, "rule": "best"}, "rule: no rule 'best'; there are: moe, paper"),
        ("train_gate", {"datasets": 1, "synthetic": -1}, "synthetic: expected at least 0, found -1"),
        ("add_expert", {"dataset": 1, "fold": -1}, "fold: expected at least 0, found -1"),
        ("update_expert", {"dataset": 1, "risk": "low"}, "risk: expected a number, found str 'low'"),
        ("predict", {"images": "nowhere", "out": "out"}, "images: nowhere: no such folder; expected images to segment"),
        ("predict", {"images": ".", "out": "out", "clicks": "3"}, "clicks: expected a whole number, found str '3'"),
        ("predict", {"images": ".", "out": "out", "tau": 2}, "tau: expected a number from 0 to 1, found 2"),
        ("evaluate", {}, "give predictions and references, or matrix=True"),
        ("evaluate", {"predictions": "nowhere", "references": "."}, "predictions: nowhere: no such folder"),
        ("evaluate", {"predictions": ".", "references": ".", "seed": 1}, "seed: for matrix=True only"),
        ("evaluate", {"predictions": ".", "matrix": True}, "matrix makes its own predictions"),
        ("evaluate", {"matrix": True, "clicks": 0}, r"clicks: expected numbers of at least 1, found \[0\]"),
        ("evaluate", {"matrix": True, "click": 1}, "evaluate: no argument 'click'; there are: datasets, unseen"),
        ("evaluate", {"matrix": "yes"}, "matrix: expected True or False, found str 'yes'"),
    ],
)
def test_an_argument_that_is_none_is_refused_by_its_name(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    make_phantom_dataset: Callable[..., Path],
    function: str,
    given: dict[str, Any],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    make_phantom_dataset(Workspace(Path("moe_workspace")).raw(ONE), n_cases=1)
    with pytest.raises(PipelineError, match=message):
        getattr(moe_pipeline, function)(**given)
    assert not Path("out").exists()


def test_functions_do_what_the_commands_do(trained_workspace: Workspace, tmp_path: Path) -> None:
    root = shutil.copytree(trained_workspace.root, tmp_path / "ws", symlinks=True)
    raw = Workspace(root).raw(ONE)
    planned = moe_pipeline.plan(1, foundation="tiny", workspace=root)
    assert planned.plan == Plan.load(Workspace(root).plan(ONE))
    report = moe_pipeline.predict(
        raw / "imagesTr", tmp_path / "out", labels=raw / "labelsTr", workspace=str(root), max_crops=2
    )
    assert not report.failed
    assert {row.case for row in report.rows} == {f"p00{number}" for number in range(6)}
    table = moe_pipeline.evaluate(tmp_path / "out", raw / "labelsTr")
    pd.testing.assert_frame_equal(
        table[["case", "class_id", "dice"]].reset_index(drop=True),
        pd.read_csv(tmp_path / "out" / "dice.csv")[["case", "class_id", "dice"]],
        check_dtype=False,
    )
    matrix = moe_pipeline.evaluate(matrix=True, datasets=ONE, workspace=root)
    assert set(matrix.comparisons[0].matrix["dataset"]) == {ONE}
    assert (root / "evaluation" / "matrix_1_click.csv").is_file()
