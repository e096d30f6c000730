"""Scores by the rules of challenges, on label maps whose measures are worked out by hand."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from moe_pipeline.errors import PipelineError
from moe_pipeline.evaluation.challenge import evaluate_challenge
from moe_pipeline.presets import challenges, load_challenge
from tests.phantoms.images import write_file

SPACING = (1.0, 2.0, 4.0)
TUMOUR = {0: "background", 1: "neuroblastoma"}


def bars(path: Path, *spans: tuple[int, int]) -> None:
    """A label map with a bar along x for each class, from first voxel to the one after the last."""
    array = np.zeros((16, 7, 5), np.uint8)
    for value, (start, stop) in enumerate(spans, start=1):
        array[start:stop, 3 * value - 2, 2] = value
    write_file(path, array, SPACING)


def test_sppin_by_hand(tmp_path: Path) -> None:
    for case, (start, stop) in {"a": (3, 5), "b": (3, 9), "c": (3, 3)}.items():
        bars(tmp_path / "references" / f"{case}.mha", (3, 9))
        bars(tmp_path / "predictions" / f"{case}.mha", (start, stop))
    folders = tmp_path / "predictions", tmp_path / "references"
    report = evaluate_challenge(*folders, TUMOUR, "sppin2023", tmp_path / "out")
    scores: Any = report.scores.set_index("case")
    assert list(scores.columns) == ["dice", "hd95_mm", "volumetric_similarity"]
    assert scores.loc["a"].tolist() == pytest.approx([2 * 2 / 8, 3.75, 1 - 4 / 8])
    assert scores.loc["b"].tolist() == [1, 0, 1]
    assert scores.loc["c"].fillna(-1).tolist() == [0, -1, 0]  # nothing predicted has no distance
    summary: Any = report.summary.set_index("metric")
    assert list(summary.columns) == ["n", "median", "std", "n_failed"]
    assert summary.loc["dice"].tolist() == pytest.approx([3, 0.5, np.std([0.5, 1, 0]), 0])
    assert summary.loc["hd95_mm"].tolist() == pytest.approx([2, 1.875, 1.875, 0])
    assert summary.loc["volumetric_similarity"].tolist() == pytest.approx([3, 0.5, np.std([0.5, 1, 0]), 0])
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert written == {"dice.csv", "scores_sppin2023.csv", "summary_sppin2023.csv", "finished.jsonl"}
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "out" / "summary_sppin2023.csv"), report.summary, rtol=1e-6)


def test_cvpr25_by_hand(tmp_path: Path) -> None:
    references, predictions = tmp_path / "references", tmp_path / "predictions"
    classes = {0: "background", 1: "one", 2: "two"}
    bars(references / "a.nii.gz", (2, 12), (2, 12))
    bars(references / "b.nii.gz", (2, 12))
    spans = [(2, 2), (2, 3), (2, 7), (2, 12), (2, 12)]  # Dice with the whole bar of 10: 0, 2/11, 2/3, 1, 1
    for click, span in enumerate(spans, start=1):
        bars(predictions / str(click) / "a.nii.gz", span, (2, 12))
        bars(predictions / str(click) / "b.nii.gz", span, (0, 4))  # a class that the reference lacks does not count
    report = evaluate_challenge(predictions, references, classes, "cvpr25", tmp_path / "out")
    dice = np.array([0, 2 / 11, 2 / 3, 1, 1])
    area = float(((dice[1:] + dice[:-1]) / 2).sum())
    scores = report.scores.set_index("case")
    assert scores.loc["b", "dice_auc"] == pytest.approx(area)
    assert scores.loc["a", "dice_auc"] == pytest.approx((area + 4) / 2)  # the mean with a class that is perfect: 4
    assert scores["dice_final"].tolist() == scores["nsd_final"].tolist() == [1, 1]
    # after two clicks a bar of one voxel has some NSD, which a Dice of 0.18 leaves no worth
    rows = report.table[(report.table["case"] == "b") & (report.table["class_id"] == 1)]
    nsd = rows.set_index("clicks")["nsd"]
    assert nsd[2] > 0
    assert scores.loc["b", "nsd_auc"] == pytest.approx(nsd[3] + nsd[4] + nsd[5] / 2)
    assert report.summary.set_index("metric").loc["dice_auc", "mean"] == pytest.approx(scores["dice_auc"].mean())
    assert {path.name for path in (tmp_path / "out").iterdir()} >= {*"12345", "scores_cvpr25.csv"}


def test_a_case_without_a_prediction_is_told_and_has_no_score(tmp_path: Path) -> None:
    for case in ("a", "b"):
        bars(tmp_path / "references" / f"{case}.nii.gz", (3, 9))
    bars(tmp_path / "predictions" / "a.nii.gz", (3, 9))
    bars(tmp_path / "predictions" / "z.nii.gz", (3, 9))
    report = evaluate_challenge(tmp_path / "predictions", tmp_path / "references", TUMOUR, "sppin2023")
    assert report.scores["case"].tolist() == ["a", "b"]
    assert report.scores["dice"].isna().tolist() == [False, True]
    assert report.summary["n_failed"].tolist() == [1, 1, 1]


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match="no preset 'sppin'; there are: sppin2023, cvpr25"):
        load_challenge("sppin")
    (tmp_path / "1").mkdir()
    with pytest.raises(PipelineError, match=r"in folders 1 to 5; there is no 2, 3, 4, 5.*--clicks 2 -o"):
        evaluate_challenge(tmp_path, tmp_path, TUMOUR, "cvpr25")


def test_every_preset_names_its_source() -> None:
    assert all(challenge.source.startswith("https://") for challenge in challenges().values())
