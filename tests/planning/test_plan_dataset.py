import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk

from moe_pipeline.datasets.dataset import Case, RawDataset, open_dataset
from moe_pipeline.errors import DatasetError, RecordError, StaleCacheError
from moe_pipeline.imaging.io.files import read_label_map, read_volume
from moe_pipeline.planning import plan_dataset as stage
from moe_pipeline.planning.fingerprint import fingerprint_case
from moe_pipeline.planning.machine import Machine
from moe_pipeline.planning.plan_dataset import plan_dataset
from moe_pipeline.planning.plan_files import load_plan, load_splits
from moe_pipeline.records.planning import CaseFingerprint, Fingerprint, Fold, Plan, Splits

MakeDataset = Callable[..., Path]


def test_fingerprint_of_the_phantoms_is_known(tmp_path: Path, make_phantom_dataset: MakeDataset) -> None:
    folder = make_phantom_dataset(tmp_path / "Dataset001_P", 6, channels=2)
    made = plan_dataset(folder, tmp_path / "plans")
    found = made.fingerprint
    assert [case.case_id for case in found.cases] == [f"p00{n}" for n in range(6)]
    assert [case.classes for case in found.cases] == [(1, 3), (1,)] * 3
    assert found.classes[1].cases == 6
    assert found.classes[3].cases == 3
    assert found.classes[3].components is not None
    assert found.classes[3].components.median == 1
    assert found.classes[3].volume_ml is not None
    assert found.classes[3].volume_ml.median == pytest.approx(3 * 15 * 3.0 / 1000)
    assert sum(found.orientations.values()) == 6
    assert len(found.orientations) == 3
    first, second = found.foreground
    assert first is not None
    assert second is not None
    assert found.classes[1].intensity[1].mean == pytest.approx(180, abs=1)
    assert found.classes[3].intensity[0].mean == pytest.approx(40, abs=1)
    assert list(found.pairs) == ["1 3"]
    assert found.pairs["1 3"].cases == 3
    assert found.classes[3].longest_mm is not None
    assert found.classes[3].shortest_mm is not None
    assert found.classes[3].longest_mm.median == pytest.approx(15 * 1.2)
    assert found.classes[3].shortest_mm.median == pytest.approx(2.5)
    assert made.plan.classes == {1: "ball", 3: "bar"}
    assert len(made.splits.folds) == 5
    assert "6 cases, 2 classes, 5 folds" in made.summary()
    assert load_plan(tmp_path / "plans") == made.plan
    assert load_splits(tmp_path / "plans") == made.splits
    assert Fingerprint.load(tmp_path / "plans" / "fingerprint.json") == found


def test_a_class_that_only_held_back_cases_have_is_said(tmp_path: Path, make_phantom_dataset: MakeDataset) -> None:
    folder, plans = make_phantom_dataset(tmp_path / "Dataset001_P", 4), tmp_path / "plans"
    made = plan_dataset(folder, plans)
    assert "only held-back cases" not in made.summary()
    bars, others = ("p000", "p002"), ("p001", "p003")
    folds = (Fold(train=bars, validation=others), Fold(train=others, validation=bars))
    made.splits.model_copy(update={"folds": folds}).save(plans / "splits.json")
    warnings = [line for line in plan_dataset(folder, plans).summary().splitlines() if "warning" in line]
    assert len(warnings) == 1
    assert "Dataset001_P, fold 1: only held-back cases have the class bar, no training case does" in warnings[0]


def test_pooled_foreground_equals_pooling_all_voxels(tmp_path: Path, make_phantom_dataset: MakeDataset) -> None:
    """Cases count the same, as in nnU-Net: here by repeating each case's voxels to a common number."""
    folder = make_phantom_dataset(tmp_path / "Dataset001_P", 5)
    found = plan_dataset(folder, tmp_path / "plans").fingerprint.foreground[0]
    random = np.random.default_rng(0)
    voxels = []
    for case in open_dataset(folder).cases:
        image = read_volume(case.images[0]).array
        assert case.label is not None
        voxels.append(random.choice(image[read_label_map(case.label).array > 0], 50_000))
    pooled = np.concatenate(voxels)
    assert found is not None
    assert found.mean == pytest.approx(pooled.mean(), rel=0.01)
    assert found.std == pytest.approx(pooled.std(), rel=0.01)
    for name, percent in (("percentile_00_5", 0.5), ("median", 50), ("percentile_99_5", 99.5)):
        assert getattr(found, name) == pytest.approx(np.percentile(pooled, percent), abs=float(0.02 * pooled.std()))


@pytest.fixture
def same_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine whose speed does not change between two plans, so that their estimates are equal."""
    monkeypatch.setattr(stage, "this_machine", lambda: Machine(memory_mb=16_000, product_gflops=100))


@pytest.mark.usefixtures("same_speed")
def test_a_second_run_reads_no_case_again(
    tmp_path: Path, make_phantom_dataset: MakeDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_phantom_dataset(tmp_path / "Dataset001_P", 4)
    first = plan_dataset(folder, tmp_path / "plans")
    read: list[str] = []
    original = fingerprint_case

    def noting(case: Case, dataset: RawDataset) -> CaseFingerprint:
        read.append(case.case_id)
        return original(case, dataset)

    monkeypatch.setattr(stage, "fingerprint_case", noting)
    assert plan_dataset(folder, tmp_path / "plans") == first
    assert read == []
    shutil.copy(folder / "imagesTr" / "p001_0000.nii.gz", tmp_path / "x.nii.gz")
    shutil.copy(tmp_path / "x.nii.gz", folder / "imagesTr" / "p001_0000.nii.gz")  # touched, but the same bytes
    assert plan_dataset(folder, tmp_path / "plans") == first
    assert read == []
    changed = sitk.ReadImage(str(folder / "imagesTr" / "p002_0000.nii.gz")) + 500
    sitk.WriteImage(changed, str(folder / "imagesTr" / "p002_0000.nii.gz"))
    again = plan_dataset(folder, tmp_path / "plans")
    assert read == ["p002"]
    assert again.fingerprint.dataset_sha256 != first.fingerprint.dataset_sha256
    plan_dataset(folder, tmp_path / "plans", reuse=False)
    assert sorted(read) == ["p000", "p001", "p002", "p002", "p003"]


@pytest.mark.usefixtures("same_speed")
def test_a_killed_run_continues_where_it_was(tmp_path: Path, make_phantom_dataset: MakeDataset) -> None:
    folder = make_phantom_dataset(tmp_path / "Dataset001_P", 4)
    whole = plan_dataset(folder, tmp_path / "whole")
    lines = (tmp_path / "whole" / "cases.jsonl").read_text().splitlines()
    (tmp_path / "plans").mkdir()
    (tmp_path / "plans" / "cases.jsonl").write_text("\n".join(lines[:2]) + "\n" + lines[2][:100])  # cut off
    assert plan_dataset(folder, tmp_path / "plans") == whole
    assert plan_dataset(folder, tmp_path / "plans") == whole


def break_dataset(folder: Path) -> None:
    labels, images = folder / "labelsTr", folder / "imagesTr"
    shutil.copy(labels / "p000.nii.gz", labels / "p001.nii.gz")
    content = (images / "p002_0000.nii.gz").read_bytes()
    (images / "p002_0000.nii.gz").write_bytes(content[:-50])
    sitk.WriteImage(sitk.ReadImage(str(labels / "p003.nii.gz")) * 0, str(labels / "p003.nii.gz"))
    sitk.WriteImage(sitk.ReadImage(str(labels / "p004.nii.gz")) * 2, str(labels / "p004.nii.gz"))
    (images / "p004_0000.nii.gz").write_text("no image")


def test_all_faults_of_all_cases_are_listed(tmp_path: Path, make_phantom_dataset: MakeDataset) -> None:
    folder = make_phantom_dataset(tmp_path / "Dataset001_P", 7)
    break_dataset(folder)
    with pytest.raises(DatasetError) as caught:
        plan_dataset(folder, tmp_path / "plans")
    message = str(caught.value)
    assert "4 faults" in message
    assert "p001: p001_0000.nii.gz: image and label lie on different grids: shape" in message
    assert "p002_0000.nii.gz: damaged or truncated gzip" in message
    assert "p004: p004.nii.gz: label values 2, 6 are not in dataset.json (0, 1, 3)" in message
    assert "p004_0000.nii.gz: not a readable image" in message
    assert not (tmp_path / "plans" / "plan.json").exists()


def test_faulty_cases_can_be_left_out_and_stay_listed(tmp_path: Path, make_phantom_dataset: MakeDataset) -> None:
    folder = make_phantom_dataset(tmp_path / "Dataset001_P", 7)
    break_dataset(folder)
    made = plan_dataset(folder, tmp_path / "plans", leave_out_faulty=True)
    assert [case.case_id for case in made.fingerprint.cases] == ["p000", "p003", "p005", "p006"]
    assert {fault.case_id for fault in made.fingerprint.faults} == {"p001", "p002", "p003", "p004"}
    assert "warning: p003: p003.nii.gz: no voxel of any class" in made.summary()
    held = {case for fold in made.splits.folds for case in fold.validation}
    assert held == {"p000", "p005", "p006"}  # nothing to learn from p003


def test_incomplete_cases_can_be_left_out_and_stay_listed(tmp_path: Path, make_phantom_dataset: MakeDataset) -> None:
    folder, plans = make_phantom_dataset(tmp_path / "Dataset001_P", 4), tmp_path / "plans"
    (folder / "labelsTr" / "p001.nii.gz").unlink()
    with pytest.raises(DatasetError, match=r"1 fault\n  p001: p001_0000\.nii\.gz: an image without label"):
        plan_dataset(folder, plans)
    made = plan_dataset(folder, plans, leave_out_faulty=True)
    assert [case.case_id for case in made.fingerprint.cases] == ["p000", "p002", "p003"]
    assert "error: p001: p001_0000.nii.gz: an image without label" in made.summary()
    assert all("p001" not in (*fold.train, *fold.validation) for fold in made.splits.folds)


def test_a_dataset_without_one_good_case_is_an_error(tmp_path: Path, make_phantom_dataset: MakeDataset) -> None:
    folder = make_phantom_dataset(tmp_path / "Dataset001_P", 1)
    (folder / "imagesTr" / "p000_0000.nii.gz").write_text("no image")
    with pytest.raises(DatasetError, match="none of its 1 cases can be used"):
        plan_dataset(folder, tmp_path / "plans", leave_out_faulty=True)


def test_a_class_that_no_case_has_is_told(tmp_path: Path, make_phantom_dataset: MakeDataset) -> None:
    folder = make_phantom_dataset(tmp_path / "Dataset001_P", 2)
    description = json.loads((folder / "dataset.json").read_text())
    labels = description["labels"] | {"ghost": 9}
    (folder / "dataset.json").write_text(json.dumps(description | {"labels": labels}))
    assert "warning: the class ghost is in dataset.json, but no case" in plan_dataset(folder, tmp_path / "p").summary()


def test_an_edited_plan_is_kept_until_its_inputs_change(tmp_path: Path, make_phantom_dataset: MakeDataset) -> None:
    folder = make_phantom_dataset(tmp_path / "Dataset001_P", 3)
    path = tmp_path / "plans" / "plan.json"
    plan_dataset(folder, tmp_path / "plans")
    edited = json.loads(path.read_text()) | {"epochs": 3}
    path.write_text(json.dumps(edited))
    again = plan_dataset(folder, tmp_path / "plans")
    assert again.plan.epochs == 3
    assert again.plan.estimates.minutes < again.proposed.estimates.minutes  # of the plan as it is now
    assert f"EDITED; planned was {again.proposed.epochs}" in again.explain()
    assert load_plan(tmp_path / "plans").epochs == 3
    assert plan_dataset(folder, tmp_path / "plans", seed=1).plan.epochs != 3
    assert Plan.load(tmp_path / "plans" / "plan.previous.json").epochs == 3
    path.write_text(json.dumps(json.loads(path.read_text()) | {"epochs": 4}))
    assert plan_dataset(folder, tmp_path / "plans", reuse=False, seed=1).plan.epochs != 4
    assert [Plan.load(tmp_path / "plans" / f"plan.previous{n}.json").epochs for n in ("", 2)] == [3, 4]  # none is lost
    path.write_text(json.dumps(edited | {"epochs": 0}))
    with pytest.raises(RecordError, match="epochs: Input should be greater than or equal to 1, found 0"):
        load_plan(tmp_path / "plans")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"crop_per_case": 1}, "crop_per_case: Extra inputs are not permitted; fields are schema_version, dataset,"),
        ({"epochs": "many"}, 'epochs: Input should be a valid integer, unable to parse .*, found "many"'),
        ({"channel": 1}, r"channel: there is no 1; allowed are 0 \(MR0\)"),
        ({"view": {"spacing_mm": 1, "size_voxels": 96}}, "view.size_voxels: found 96; nano allows 64 only"),
        ({"view": {"spacing_mm": 1, "size_voxels": 64, "normalisation": "zscore"}}, "view.normalisation: .* found"),
        ({"classes": {1: "ball", 4: "x"}, "class_weights": {1: 1, 4: 1}}, r"of 4; allowed are 1 \(ball\), 3 \(bar\)"),
    ],
)
def test_an_edited_plan_is_refused_with_field_found_and_allowed(
    tmp_path: Path, make_phantom_dataset: MakeDataset, change: dict[str, Any], message: str
) -> None:
    folder = make_phantom_dataset(tmp_path / "Dataset001_P", 3)
    path = tmp_path / "plans" / "plan.json"
    plan_dataset(folder, tmp_path / "plans")
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    for use in (lambda: load_plan(path.parent), lambda: plan_dataset(folder, path.parent)):
        with pytest.raises(RecordError, match=message) as caught:
            use()
        assert str(path) in str(caught.value)


def test_edited_splits_are_kept_while_cases_and_seed_are_the_same(
    tmp_path: Path, make_phantom_dataset: MakeDataset, caplog: pytest.LogCaptureFixture
) -> None:
    folder, plans = make_phantom_dataset(tmp_path / "Dataset001_P", 4), tmp_path / "plans"
    made = plan_dataset(folder, plans).splits
    edited = made.model_copy(update={"folds": made.folds[:2]})
    edited.save(plans / "splits.json")
    assert plan_dataset(folder, plans).splits == edited
    assert plan_dataset(folder, plans, reuse=False).splits == load_splits(plans) == edited
    assert not caplog.messages
    assert plan_dataset(folder, plans, seed=1).splits.seed == load_splits(plans).seed == 1
    assert Splits.load(plans / "splits.previous.json") == edited
    assert any("the seed is 1, it was 0" in message for message in caplog.messages)


def test_folds_by_patient_outlast_a_run_without_the_pattern(
    tmp_path: Path, make_phantom_dataset: MakeDataset, caplog: pytest.LogCaptureFixture
) -> None:
    folder, plans = make_phantom_dataset(tmp_path / "Dataset001_P", 4), tmp_path / "plans"
    grouped = plan_dataset(folder, plans, patient_pattern=r"p00[01]|p00[23]").splits
    by_pair = plan_dataset(folder, plans, patient_pattern=r"p0(0)").splits
    assert by_pair != grouped
    assert Splits.load(plans / "splits.previous.json") == grouped
    assert "patients are told apart anew" in caplog.text
    caplog.clear()
    assert plan_dataset(folder, plans).splits == by_pair
    assert plan_dataset(folder, plans, patient_pattern=r"p0(0)").splits == by_pair
    assert not caplog.messages
    shutil.copy(folder / "imagesTr" / "p000_0000.nii.gz", folder / "imagesTr" / "p009_0000.nii.gz")
    shutil.copy(folder / "labelsTr" / "p000.nii.gz", folder / "labelsTr" / "p009.nii.gz")
    assert "p009" in {case for fold in plan_dataset(folder, plans).splits.folds for case in fold.train}
    assert "no case was held back so far" in caplog.text
    assert "it was grouped by the pattern p0(0)" in caplog.text


def test_folds_that_split_a_patient_named_since_are_replaced(
    tmp_path: Path, make_phantom_dataset: MakeDataset, caplog: pytest.LogCaptureFixture
) -> None:
    folder, plans = make_phantom_dataset(tmp_path / "Dataset001_P", 3), tmp_path / "plans"
    before = plan_dataset(folder, plans).splits
    description = json.loads((folder / "dataset.json").read_text())
    (folder / "dataset.json").write_text(json.dumps(description | {"patients": {"p000": "x", "p001": "x"}}))
    assert len(plan_dataset(folder, plans).splits.folds) == 2
    assert Splits.load(plans / "splits.previous.json") == before
    assert "patients of dataset.json are on both sides" in caplog.text


def test_a_plan_of_another_fingerprint_is_stale(tmp_path: Path, make_phantom_dataset: MakeDataset) -> None:
    plan_dataset(make_phantom_dataset(tmp_path / "a" / "Dataset001_P", 3), tmp_path / "plans")
    plan_dataset(make_phantom_dataset(tmp_path / "b" / "Dataset001_P", 4), tmp_path / "other")
    shutil.copy(tmp_path / "other" / "fingerprint.json", tmp_path / "plans")
    with pytest.raises(StaleCacheError, match="plan again with `moe plan Dataset001_P`"):
        load_plan(tmp_path / "plans")


def test_patients_of_dataset_json_stay_together(tmp_path: Path, make_phantom_dataset: MakeDataset) -> None:
    folder = make_phantom_dataset(tmp_path / "Dataset001_P", 4)
    description = json.loads((folder / "dataset.json").read_text())
    patients = {"p000": "x", "p001": "x", "p002": "y", "p003": "y"}
    (folder / "dataset.json").write_text(json.dumps(description | {"patients": patients}))
    folds = plan_dataset(folder, tmp_path / "plans").splits.folds
    assert {fold.validation for fold in folds} == {("p000", "p001"), ("p002", "p003")}


def test_planning_imports_no_torch(tmp_path: Path, make_phantom_dataset: MakeDataset) -> None:
    folder = make_phantom_dataset(tmp_path / "Dataset001_P", 2)
    code = (
        "import sys; from pathlib import Path; from moe_pipeline.planning.plan_dataset import plan_dataset\n"
        f"plan_dataset(Path({str(folder)!r}), Path({str(tmp_path / 'plans')!r})); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_hippocampus_is_planned_as_known(tmp_path: Path, real_data: Path) -> None:
    from dataset_conversion.convert import convert

    convert(real_data / "Task04_Hippocampus", tmp_path / "Dataset004_Hippocampus")
    made = plan_dataset(tmp_path / "Dataset004_Hippocampus", tmp_path / "plans")
    assert len(made.fingerprint.cases) == 135
    assert made.fingerprint.faults == ()
    assert [axis.median for axis in made.fingerprint.spacing_mm] == [1, 1, 1]
    assert [axis.median for axis in made.fingerprint.shape] == [35, 50, 36]
    assert made.plan.view.edges_mm == (0.75,) * 3
    assert made.plan.classes == {1: "Anterior", 2: "Posterior"}
