"""The forgetting matrix of a small model, from folders to tables."""

import json
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from moe_pipeline.errors import DatasetError, PipelineError
from moe_pipeline.evaluation.forgetting import score as prompts_module
from moe_pipeline.evaluation.forgetting.compare import MatrixOptions, MatrixReport, compare, forgetting_report
from moe_pipeline.evaluation.forgetting.datasets import folder_set, raw_set
from moe_pipeline.evaluation.forgetting.models import load_compared_models
from moe_pipeline.imaging.io.files import read_label_map, read_volume
from moe_pipeline.inference.batch.resume import FINISHED
from moe_pipeline.inference.interactive.request import Request, SimulatedRequest
from moe_pipeline.inference.interactive.segment_case import CaseResult, segment_case
from moe_pipeline.journal.written import Written
from moe_pipeline.mixture.model import Mixture
from moe_pipeline.model.sam.foundation import SamFoundation
from moe_pipeline.records.comparison import CaseScores
from moe_pipeline.records.experts import ExpertCard
from moe_pipeline.report.forgetting import matrix_as_text
from moe_pipeline.weights.store import save_foundation
from moe_pipeline.workspace import Workspace

ONE, TWO, THREE = "Dataset001_One", "Dataset002_Two", "Dataset003_Three"
CLICKS = (1, 2)


@pytest.fixture(scope="module")
def unseen(trained_workspace: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two cases of the third dataset as plain folders without names of classes."""
    folder = tmp_path_factory.mktemp("somewhere") / "Strangers"
    for part, source in (("images", "imagesTr"), ("labels", "labelsTr")):
        (folder / part).mkdir(parents=True)
        for path in sorted((trained_workspace.raw(THREE) / source).iterdir())[:2]:
            shutil.copy(path, folder / part / path.name.replace("_0000", ""))
    return folder


@pytest.fixture(scope="module")
def compared(
    trained_workspace: Workspace, unseen: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[MatrixReport, Path]:
    out = tmp_path_factory.mktemp("compared")
    options = MatrixOptions(unseen=(unseen,), clicks=CLICKS)
    return forgetting_report(trained_workspace, out, options), out


def test_rows_are_sets_and_columns_are_models(compared: tuple[MatrixReport, Path]) -> None:
    report, out = compared
    assert [one.n_clicks for one in report.comparisons] == [1, 2]
    matrix = report.comparisons[0].matrix
    assert list(matrix["dataset"].unique()) == [ONE, TWO, "Strangers"]
    assert set(matrix.loc[matrix["dataset"] == "Strangers", "kind"]) == {"unseen"}
    assert set(matrix.loc[matrix["dataset"] == ONE, "kind"]) == {"finetuned"}
    assert {"general", ONE, TWO, "moe", "best"} <= set(matrix.columns)
    assert {path.name for path in out.iterdir()} == {
        *(f"{name}_{n}.csv" for name in ("prompts", "matrix", "sets") for n in ("1_click", "2_clicks")),
        "cases",
        "finished.jsonl",
        "run.json",
    }
    assert (matrix["best"] >= matrix[["general", ONE, TWO]].max(axis=1) - 1e-12).all()


def test_the_general_expert_is_also_shown_what_the_expert_sees(
    trained_workspace: Workspace, compared: tuple[MatrixReport, Path]
) -> None:
    card = json.loads((trained_workspace.expert(ONE) / "expert.json").read_text())
    model = "general in expert's view"
    assert card["view"]["spacing_mm"] != 1.5  # else there would be nothing to show
    matrix = compared[0].comparisons[0].matrix.set_index("dataset")
    assert matrix.loc[[ONE, TWO], model].notna().all()
    assert matrix.loc[["Strangers"], model].isna().all()
    assert f"{card['view']['spacing_mm']:g} mm" in compared[0].views[model]


def test_what_goes_to_the_general_expert_is_its_mask_exactly(compared: tuple[MatrixReport, Path]) -> None:
    table = pd.read_csv(compared[1] / "prompts_2_clicks.csv")
    key = ["dataset", "case", "class_id"]
    moe = table[table["model"] == "moe"].set_index(key)
    general = table[table["model"] == "general"].set_index(key)
    silent = moe["weight"] == 0
    assert (moe["mask_sha256"] == general["mask_sha256"])[silent].all()
    for _, row in compared[0].comparisons[1].sets.iterrows():
        own = moe.loc[row["dataset"]]
        unchanged = (own["mask_sha256"] == general.loc[row["dataset"]]["mask_sha256"]).mean()
        assert row["unchanged"] == pytest.approx(unchanged)


def test_scores_are_those_of_the_label_map_where_objects_do_not_meet(
    trained_workspace: Workspace, unseen: Path, compared: tuple[MatrixReport, Path]
) -> None:
    case = folder_set(unseen, 0).cases[0]
    scores = CaseScores.load(compared[1] / "cases" / "Strangers" / f"{case.case}.json")
    (general, *_) = load_compared_models(trained_workspace, trained_workspace.model, "cpu")
    model = general.model_for("Strangers")
    assert model is not None
    reference = read_label_map(case.reference)
    for score in scores.models["general, 1 click"].prompts:
        classes = {score.class_id: score.class_name}
        request = SimulatedRequest(case.case, read_volume(case.image), reference, classes)
        mask = segment_case(model, request).labels.array == score.class_id
        truth = reference.array == score.class_id
        assert score.voxels == mask.sum()
        assert score.dice == pytest.approx(2 * (mask & truth).sum() / (mask.sum() + truth.sum()))


def test_a_killed_run_goes_on_with_what_is_missing(
    trained_workspace: Workspace,
    unseen: Path,
    compared: tuple[MatrixReport, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = tmp_path / "out"
    shutil.copytree(compared[1], out)
    (out / "matrix_1_click.csv").unlink()
    path = next((out / "cases" / "Strangers").iterdir())
    scores = CaseScores.load(path)
    left = {key: value for key, value in scores.models.items() if key != "moe, 2 clicks"}
    Written(out / FINISHED).write_text(
        path.relative_to(out).as_posix(), scores.model_copy(update={"models": left}).as_text()
    )
    damaged = next((out / "cases" / ONE).iterdir())
    Written(out / FINISHED).write_text(damaged.relative_to(out).as_posix(), "{")  # as if of another version
    asked: list[str] = []
    whole = segment_case

    def counted(model: Mixture, request: Request, *more: Any) -> CaseResult:
        asked.append(request.case)
        return whole(model, request, *more)

    monkeypatch.setattr(prompts_module, "segment_case", counted)
    forgetting_report(trained_workspace, out, MatrixOptions(unseen=(unseen,), clicks=CLICKS))
    assert asked.count(path.stem) == 1
    assert set(asked) == {path.stem, damaged.stem}
    for name in ("matrix_1_click.csv", "matrix_2_clicks.csv", "sets_2_clicks.csv"):
        assert (out / name).read_bytes() == (compared[1] / name).read_bytes()


def test_tables_and_records_of_others_are_not_replaced(
    trained_workspace: Workspace, unseen: Path, compared: tuple[MatrixReport, Path], tmp_path: Path
) -> None:
    out = shutil.copytree(compared[1], tmp_path / "out")
    options = MatrixOptions(unseen=(unseen,), clicks=CLICKS)
    record = next((out / "cases" / ONE).iterdir())
    record.write_text("theirs")
    report = forgetting_report(trained_workspace, out, options)
    assert f"{record}: is in the way and was not written by moe" in report.failures[0]
    assert record.read_text() == "theirs"
    (out / "matrix_1_click.csv").write_text("theirs")
    with pytest.raises(PipelineError, match=r"matrix_1_click\.csv: is in the way"):
        forgetting_report(trained_workspace, out, options)
    assert (out / "matrix_1_click.csv").read_text() == "theirs"


def test_a_case_that_fails_is_named_and_the_others_go_on(
    trained_workspace: Workspace, unseen: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "Strangers"
    shutil.copytree(unseen, folder)
    broken = sorted((folder / "images").iterdir())[0]
    broken.write_bytes(broken.read_bytes()[:-50])
    report = forgetting_report(trained_workspace, tmp_path / "out", MatrixOptions(datasets=(ONE,), unseen=(folder,)))
    assert len(report.failures) == 1
    assert broken.name in report.failures[0]
    assert "Not compared:" in matrix_as_text(report)
    row = report.comparisons[0].sets.set_index("dataset").loc["Strangers"]
    assert row["cases"] == 1


def test_the_report_says_what_was_forgotten_and_what_was_seen(compared: tuple[MatrixReport, Path]) -> None:
    text = matrix_as_text(compared[0])
    for words in ("Mean Dice, 1 click per object", "Mean Dice, 2 clicks", "mean drop", "exactly the foundation's"):
        assert words in text
    forgetting = {row.model: row for row in compared[0].comparisons[0].forgetting}
    assert set(forgetting) == {ONE, TWO, "moe"}
    assert forgetting["moe"].n_classes == 2
    assert compared[0].comparisons[0].regressions(1.0) == []


def test_a_wholly_finetuned_network_that_never_learned_is_the_foundation(
    place: Workspace, unseen: Path, small_foundation: SamFoundation, tmp_path: Path
) -> None:
    view = ExpertCard.load(place.expert(ONE) / "expert.json").view
    save_foundation(
        small_foundation, place.sft(ONE), name="foundation", source="test", licence="none", preset="nano", view=view
    )
    report = forgetting_report(place, tmp_path / "out", MatrixOptions(datasets=(ONE,), unseen=(unseen,)))
    matrix: Any = report.comparisons[0].matrix.set_index("dataset")
    model = f"sft of {ONE}"
    assert matrix.loc["Strangers", model].tolist() == matrix.loc["Strangers", "general"].tolist()
    assert matrix.loc[ONE, model].tolist() == matrix.loc[ONE, "general in expert's view"].tolist()
    assert matrix.loc[ONE, model].tolist() != matrix.loc[ONE, "general"].tolist()
    assert f"{view.spacing_in_words}, 32 voxels on its own set, 1.5 mm" in report.views[model]
    (forgetting,) = [row for row in report.comparisons[0].forgetting if row.model == model]
    assert forgetting.mean_drop == 0


def test_held_back_are_the_test_cases_or_else_the_fold(place: Workspace) -> None:
    fold = raw_set(place, ONE, None, 0)
    splits = json.loads(place.splits(ONE).read_text())
    assert [case.case for case in fold.cases] == splits["folds"][0]["validation"]
    assert "fold 0" in fold.origin
    raw = place.raw(ONE)
    for part in ("images", "labels"):
        (raw / f"{part}Ts").mkdir()
        path = sorted((raw / f"{part}Tr").iterdir())[0]
        shutil.copy(path, raw / f"{part}Ts" / path.name.replace("p000", "t000"))
    tests = raw_set(place, ONE, None, 0)
    assert [case.case for case in tests.cases] == ["t000"]
    assert "labelsTs" in tests.origin


def test_what_cannot_be_compared_is_refused(trained_workspace: Workspace, unseen: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="expected two folders"):
        folder_set(tmp_path, 0)
    with pytest.raises(DatasetError, match="sets of different names"):
        forgetting_report(trained_workspace, tmp_path, MatrixOptions(datasets=(ONE,), unseen=(unseen, unseen)))
    (tmp_path / "Empty" / "images").mkdir(parents=True)
    shutil.copytree(unseen / "labels", tmp_path / "Empty" / "labels")
    with pytest.raises(DatasetError, match="no label map has the name of an image"):
        folder_set(tmp_path / "Empty", 0)
    for path in unseen.glob("labels/*"):
        (tmp_path / "Empty" / "images" / path.name).write_text("no image")
    with pytest.raises(PipelineError, match="not a single case could be compared"):
        compare(trained_workspace, [folder_set(tmp_path / "Empty", 0)], tmp_path / "out", MatrixOptions())
