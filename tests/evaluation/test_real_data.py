"""Real label maps: a published prediction with a wrong header, and references against themselves."""

import shutil
from pathlib import Path

import pytest

from moe_pipeline.evaluation.case import case_metrics
from moe_pipeline.evaluation.folder import evaluate_folder
from moe_pipeline.evaluation.summary import summarise
from moe_pipeline.imaging.io.files import read_label_map
from moe_pipeline.imaging.volume import Volume

AMOS = Path("SAM-Med3D_samples", "kidney_right", "AMOS")


def test_a_prediction_with_a_wrong_header_fails_with_its_reason(real_data: Path, tmp_path: Path) -> None:
    shutil.copy(real_data / AMOS / "pred" / "amos_0013_pred.nii.gz", tmp_path / "amos_0013.nii.gz")
    (row,) = evaluate_folder(tmp_path, real_data / AMOS / "labelsVa", {0: "background", 1: "kidney"}).itertuples()
    assert row.status == "failed"
    assert "spacing 1.5x1.5x1.5 against 0.781x0.781x5" in str(row.message)


def test_its_overlap_by_voxel_index_is_known(real_data: Path) -> None:
    reference = read_label_map(real_data / AMOS / "labelsVa" / "amos_0013.nii.gz")
    prediction = read_label_map(real_data / AMOS / "pred" / "amos_0013_pred.nii.gz")
    kidney = Volume((reference.array == 3).astype("uint8"), reference.geometry)
    (row,) = case_metrics(Volume(prediction.array, reference.geometry), kidney, {1: "kidney"}, "amos_0013")
    assert row.dice == pytest.approx(0.918, abs=5e-4)


def test_references_against_themselves_are_perfect(real_data: Path) -> None:
    labels = real_data / "Task04_Hippocampus" / "labelsTr"
    table = evaluate_folder(labels, labels, {0: "background", 1: "anterior", 2: "posterior"})
    assert set(table["status"]) == {"ok"}
    assert summarise(table, metrics=("dice", "nsd"))["low"].tolist() == [1] * 6
    assert summarise(table, metrics=("hd95_mm",))["high"].tolist() == [0] * 3
