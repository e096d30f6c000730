import gzip
import json
import os
import re
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk

from dataset_conversion import convert as stage
from dataset_conversion.case import convert_case
from dataset_conversion.checking.check import check
from dataset_conversion.convert import convert
from dataset_conversion.label_map import LabelMap
from dataset_conversion.layout import Options, SourceCase
from dataset_conversion.registry import choose_source
from moe_pipeline.datasets.classes import scored_classes_beside
from moe_pipeline.datasets.dataset import open_dataset
from moe_pipeline.errors import DatasetError, PipelineError, RecordError
from moe_pipeline.evaluation.folder import evaluate_folder
from moe_pipeline.files import sha256_file
from moe_pipeline.imaging.io.native import read_with_notes
from moe_pipeline.records.check import Fix, Kind
from moe_pipeline.records.dataset import ConversionReport, ConversionRow

MakeDataset = Callable[..., Path]


def decathlon(folder: Path, make: MakeDataset, n_cases: int = 3) -> Path:
    """A Decathlon folder with the phantoms of an nnU-Net v2 folder."""
    make(folder, n_cases)
    for path in (folder / "imagesTr").iterdir():
        path.rename(path.with_name(path.name.replace("_0000", "")))
    names = sorted(path.name for path in (folder / "imagesTr").iterdir())
    write_json(folder, training=[{"image": f"./imagesTr/{n}", "label": f"./labelsTr/{n}"} for n in names])
    return folder


def write_json(folder: Path, **changes: Any) -> None:
    description = {
        "name": "Phantom",
        "licence": "CC0",
        "modality": {"0": "MRI"},
        "labels": {"0": "Background", "1": "ball", "3": "bar"},
        "training": [],
        "test": [],
    }
    (folder / "dataset.json").write_text(json.dumps({**description, **changes}))


def snapshot(folder: Path) -> dict[str, tuple[str, int]]:
    return {
        str(path.relative_to(folder)): (sha256_file(path), path.stat().st_mtime_ns)
        for path in folder.rglob("*")
        if path.is_file()
    }


def rows(report: ConversionReport) -> dict[str, tuple[str, str]]:
    return {row.case_id: (row.status, row.message) for row in report.rows}


def test_decathlon_becomes_nnunet_v2_with_the_same_bytes(tmp_path: Path, make_phantom_dataset: MakeDataset) -> None:
    source = decathlon(tmp_path / "Task01_Phantom", make_phantom_dataset)
    before = snapshot(source)
    report = convert(source, tmp_path / "Dataset001_Phantom")
    assert report.source_format == "msd"
    assert rows(report) == {f"p00{n}": ("converted", "") for n in range(3)}
    assert snapshot(source) == before
    dataset = open_dataset(tmp_path / "Dataset001_Phantom")
    assert dataset.classes == {1: "ball", 3: "bar"}
    description = json.loads((dataset.folder / "dataset.json").read_text())
    assert description == {
        "channel_names": {"0": "MRI"},
        "labels": {"background": 0, "ball": 1, "bar": 3},
        "numTraining": 3,
        "file_ending": ".nii.gz",
        "name": "Phantom",
        "licence": "CC0",
    }
    for case in dataset.cases:
        assert sha256_file(case.images[0]) == before[f"imagesTr/{case.case_id}.nii.gz"][0]
        assert case.label is not None
        assert sha256_file(case.label) == before[f"labelsTr/{case.case_id}.nii.gz"][0]
    assert ConversionReport.load(dataset.folder / "conversion.json") == report


def test_a_second_run_does_nothing_and_a_changed_source_is_done_again(
    tmp_path: Path, make_phantom_dataset: MakeDataset
) -> None:
    source, out = decathlon(tmp_path / "in", make_phantom_dataset), tmp_path / "out"
    convert(source, out)
    (out / "imagesTr" / "p002_0000.nii.gz").unlink()  # as if killed there
    before = snapshot(out / "labelsTr")
    os.utime(source / "labelsTr" / "p001.nii.gz")  # touched, but the same bytes
    changed = source / "labelsTr" / "p000.nii.gz"
    sitk.WriteImage(sitk.ReadImage(str(changed)) * 0, str(changed))
    os.utime(changed, (0, 0))  # as if copied from an archive: older than what was made from its predecessor
    states = {case: status for case, (status, _) in rows(convert(source, out)).items()}
    assert states == {"p000": "converted", "p001": "present", "p002": "converted"}
    assert snapshot(out / "labelsTr")["p001.nii.gz"] == before["p001.nii.gz"]
    assert sha256_file(out / "labelsTr" / "p000.nii.gz") == sha256_file(changed)


def test_other_labels_or_channels_are_checked_again(tmp_path: Path, make_phantom_dataset: MakeDataset) -> None:
    source, out = make_phantom_dataset(tmp_path / "in", 2), tmp_path / "out"
    convert(source, out)
    description = json.loads((source / "dataset.json").read_text())
    (source / "dataset.json").write_text(json.dumps(description | {"labels": {"background": 0, "ball": 1}}))
    found = rows(convert(source, out))
    assert found["p000"][0] == "failed"
    assert "label values 3 are not in dataset.json" in found["p000"][1]
    assert found["p001"][0] == "converted"
    assert [case.case_id for case in open_dataset(out).cases] == ["p001"]


def convert_until(case_id: str, source: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed after a case."""

    def convert_one(case: SourceCase, **options: Any) -> ConversionRow:
        if case.case_id > case_id:
            raise RuntimeError("killed")
        return convert_case(case, **options)

    with monkeypatch.context() as patch:
        patch.setattr(stage, "convert_case", convert_one)
        with pytest.raises(RuntimeError, match="killed"):
            convert(source, out)


def test_a_killed_conversion_continues_and_admits_no_other_source(
    tmp_path: Path, make_phantom_dataset: MakeDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, out = decathlon(tmp_path / "in", make_phantom_dataset), tmp_path / "out"
    other = decathlon(tmp_path / "other", make_phantom_dataset, 2)
    convert_until("p000", source, out, monkeypatch)
    assert not (out / "dataset.json").exists()
    with (out / "cases.jsonl").open("a") as stream:
        stream.write('{"case_id": "p0')  # cut off
    with pytest.raises(DatasetError, match=r"already holds a conversion of .*in \(msd\)\. Remove it"):
        convert(other, out)
    states = {case: status for case, (status, _) in rows(convert(source, out)).items()}
    assert states == {"p000": "present", "p001": "converted", "p002": "converted"}
    assert {case: status for case, (status, _) in rows(convert(source, out)).items()} == dict.fromkeys(
        states, "present"
    )


def test_what_a_killed_run_made_vanishes_with_its_source(
    tmp_path: Path, make_phantom_dataset: MakeDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, out = decathlon(tmp_path / "in", make_phantom_dataset), tmp_path / "out"
    convert_until("p001", source, out, monkeypatch)
    (source / "labelsTr" / "p001.nii.gz").unlink()
    assert rows(convert(source, out))["p001"][0] == "failed"
    assert sorted(path.name for path in (out / "imagesTr").iterdir()) == ["p000_0000.nii.gz", "p002_0000.nii.gz"]


def test_a_folder_with_foreign_images_is_refused(tmp_path: Path, make_phantom_dataset: MakeDataset) -> None:
    source, out = decathlon(tmp_path / "in", make_phantom_dataset), tmp_path / "out"
    (out / "imagesTr").mkdir(parents=True)
    with pytest.raises(DatasetError, match="not made by `moe convert`"):
        convert(source, out)


def test_cases_that_vanish_from_the_source_vanish(tmp_path: Path, make_phantom_dataset: MakeDataset) -> None:
    source, out = decathlon(tmp_path / "in", make_phantom_dataset), tmp_path / "out"
    convert(source, out)
    (source / "imagesTr" / "p001.nii.gz").unlink()
    (source / "labelsTr" / "p001.nii.gz").unlink()
    names = ["p000.nii.gz", "p002.nii.gz"]
    write_json(source, training=[{"image": f"imagesTr/{n}", "label": f"labelsTr/{n}"} for n in names])
    convert(source, out)
    assert [case.case_id for case in open_dataset(out).cases] == ["p000", "p002"]


def test_bad_cases_become_rows_and_the_others_go_on(tmp_path: Path, make_phantom_dataset: MakeDataset) -> None:
    source, out = decathlon(tmp_path / "in", make_phantom_dataset, 8), tmp_path / "out"
    images, labels = source / "imagesTr", source / "labelsTr"
    shutil.copy(labels / "p000.nii.gz", labels / "p001.nii.gz")  # another grid
    (labels / "p002.nii.gz").unlink()
    content = (images / "p003.nii.gz").read_bytes()
    (images / "p003.nii.gz").write_bytes(content[: len(content) // 2])
    label = sitk.ReadImage(str(labels / "p004.nii.gz"))
    sitk.WriteImage(label * 7, str(labels / "p004.nii.gz"))
    soft = sitk.Cast(sitk.ReadImage(str(labels / "p005.nii.gz")), sitk.sitkFloat32) * 0.5
    sitk.WriteImage(soft, str(labels / "p005.nii.gz"))
    image = sitk.GetArrayFromImage(sitk.ReadImage(str(images / "p006.nii.gz")))
    image[2, 2, 2] = np.nan
    broken = sitk.GetImageFromArray(image)
    broken.CopyInformation(sitk.ReadImage(str(images / "p006.nii.gz")))
    sitk.WriteImage(broken, str(images / "p006.nii.gz"))
    shutil.copy(images / "p000.nii.gz", images / "stray.nii.gz")
    shutil.copy(labels / "p000.nii.gz", labels / "lost.nii.gz")

    report = convert(source, out)
    found = rows(report)
    assert {case for case, (status, _) in found.items() if status == "converted"} == {"p000", "p007"}
    expected = {
        "p001": "p001.nii.gz: image and label lie on different grids: shape",
        "p002": "labelsTr/p002.nii.gz: listed in dataset.json, but not there",
        "p003": "damaged or truncated gzip",
        "p004": "p004.nii.gz: label values 7, 21 are not in dataset.json (0, 1, 3)",
        "p005": "needs whole numbers, found 0.5",
        "p006": "p006.nii.gz: 1 voxels are NaN or infinite",
        "stray": "imagesTr/stray.nii.gz: not listed in dataset.json, and has no labelsTr/stray.nii.gz",
        "lost": "labelsTr/lost.nii.gz: not listed in dataset.json, and has no imagesTr/lost.nii.gz",
    }
    for case, text in expected.items():
        assert found[case][0] == "failed"
        assert text in found[case][1]
    assert len(report.failed) == 8
    assert [case.case_id for case in open_dataset(out).cases] == ["p000", "p007"]
    assert "2 converted, 8 failed" in report.summary()


def test_a_case_that_turns_bad_leaves_nothing_behind(tmp_path: Path, make_phantom_dataset: MakeDataset) -> None:
    source, out = decathlon(tmp_path / "in", make_phantom_dataset), tmp_path / "out"
    convert(source, out)
    (source / "imagesTr" / "p001.nii.gz").write_text("not an image")
    assert rows(convert(source, out))["p001"][0] == "failed"
    assert [case.case_id for case in open_dataset(out).cases] == ["p000", "p002"]


def test_4d_images_are_split_into_channels(tmp_path: Path, make_phantom_dataset: MakeDataset) -> None:
    source = decathlon(tmp_path / "in", make_phantom_dataset, 2)
    for path in (source / "imagesTr").iterdir():
        image = sitk.ReadImage(str(path))
        sitk.WriteImage(sitk.JoinSeries([image, image + 1000]), str(path))
    names = [{"image": f"imagesTr/p00{n}.nii.gz", "label": f"labelsTr/p00{n}.nii.gz"} for n in range(2)]
    write_json(source, modality={"0": "FLAIR", "1": "T1w"}, training=names)
    convert(source, tmp_path / "out")
    dataset = open_dataset(tmp_path / "out")
    assert dataset.json.channel_names == {"0": "FLAIR", "1": "T1w"}
    first, second = (sitk.ReadImage(str(path)) for path in dataset.cases[1].images)
    label = sitk.ReadImage(str(dataset.cases[1].label))
    assert first.GetSize() == second.GetSize() == label.GetSize()
    np.testing.assert_allclose(first.GetDirection(), label.GetDirection(), atol=1e-6)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(first) + 1000, sitk.GetArrayFromImage(second))

    write_json(source, modality={"0": "FLAIR"}, training=names)
    with pytest.raises(DatasetError, match=r"but the dataset has 1 \(FLAIR\)\. moe convert --fix split-4d"):
        convert(source, tmp_path / "other")


def test_whole_float_labels_are_rewritten_and_said_so(tmp_path: Path, make_phantom_dataset: MakeDataset) -> None:
    source = decathlon(tmp_path / "in", make_phantom_dataset, 1)
    path = source / "labelsTr" / "p000.nii.gz"
    before = sitk.ReadImage(str(path))
    sitk.WriteImage(sitk.Cast(before, sitk.sitkFloat64), str(path))
    report = convert(source, tmp_path / "out")
    assert rows(report)["p000"] == ("converted", "p000.nii.gz written anew (uint8)")
    after = sitk.ReadImage(str(tmp_path / "out" / "labelsTr" / "p000.nii.gz"))
    assert after.GetPixelID() == sitk.sitkUInt8
    np.testing.assert_array_equal(sitk.GetArrayFromImage(after), sitk.GetArrayFromImage(before))
    np.testing.assert_allclose(after.GetDirection(), before.GetDirection(), atol=1e-6)


def test_nnunet_v1_takes_channels_from_names_and_labels_from_json(
    tmp_path: Path, make_phantom_dataset: MakeDataset
) -> None:
    source = make_phantom_dataset(tmp_path / "Task001_X", 2, channels=2)
    (source / "imagesTs").mkdir()
    for channel in (0, 1):
        shutil.copy(source / "imagesTr" / f"p000_{channel:04d}.nii.gz", source / "imagesTs" / f"t_{channel:04d}.nii.gz")
    write_json(
        source,
        modality={"0": "T1", "1": "T2"},
        labels={"0": "background", "1": "ball", "3": "ball"},
        training=[{"image": "./imagesTr/p000.nii.gz", "label": "./labelsTr/p000.nii.gz"}],
    )
    assert choose_source(source) == "nnunet_v1"
    report = convert(source, tmp_path / "out")
    dataset = open_dataset(tmp_path / "out")
    assert sorted(rows(report)) == ["p000", "p001", "t"]
    assert rows(report)["p001"] == ("failed", "not listed in dataset.json for training, but its files are there")
    assert dataset.json.labels == {"background": 0, "ball": 1, "ball_3": 3}
    assert [case.case_id for case in dataset.test_cases] == ["t"]
    assert dataset.json.numTraining == 1


def test_nnunet_v2_with_another_file_format(tmp_path: Path, make_phantom_dataset: MakeDataset) -> None:
    source = make_phantom_dataset(tmp_path / "Dataset001_X", 2)
    for path in [*(source / "imagesTr").iterdir(), *(source / "labelsTr").iterdir()]:
        sitk.WriteImage(sitk.ReadImage(str(path)), str(path).replace(".nii.gz", ".mha"))
        path.unlink()
    description = json.loads((source / "dataset.json").read_text())
    patients = {"p000": "one", "p001": "one"}
    (source / "dataset.json").write_text(json.dumps({**description, "file_ending": ".mha", "patients": patients}))
    report = convert(source, tmp_path / "out")
    assert report.source_format == "nnunet_v2"
    dataset = open_dataset(tmp_path / "out")
    assert dataset.json.file_ending == ".nii.gz"
    assert dataset.json.patients == patients
    for case in dataset.cases:
        there = sitk.ReadImage(str(source / "imagesTr" / f"{case.case_id}_0000.mha"))
        here = sitk.ReadImage(str(case.images[0]))
        np.testing.assert_array_equal(sitk.GetArrayFromImage(here), sitk.GetArrayFromImage(there))
        np.testing.assert_allclose(here.GetOrigin(), there.GetOrigin(), atol=1e-5)


def test_nnunet_v2_with_an_explicit_list_of_cases(tmp_path: Path, make_phantom_dataset: MakeDataset) -> None:
    source = make_phantom_dataset(tmp_path / "Dataset001_X", 3)
    (source / "labelsTr" / "p002.nii.gz").unlink()
    listed = {
        "ann": {"images": ["imagesTr/p001_0000.nii.gz"], "label": "labelsTr/p001.nii.gz"},
        "bob": {"images": ["imagesTr/p002_0000.nii.gz"], "label": "labelsTr/p002.nii.gz"},
        "cem": {"images": [], "label": "labelsTr/p000.nii.gz"},
        "dee": "p000",
    }
    description = json.loads((source / "dataset.json").read_text())
    (source / "dataset.json").write_text(json.dumps(description | {"dataset": listed}))
    found = rows(convert(source, tmp_path / "out"))
    assert found["ann"][0] == "converted"
    assert "p002.nii.gz: listed in dataset.json, but not there" in found["bob"][1]
    assert found["cem"] == ("failed", "0 images for 1 channels")
    assert found["dee"] == ("failed", "in dataset.json, it needs a list `images` and a `label`")
    assert [case.case_id for case in open_dataset(tmp_path / "out").cases] == ["ann"]


def test_test_labels_of_nnunet_v2_are_kept(tmp_path: Path, make_phantom_dataset: MakeDataset) -> None:
    source, out = make_phantom_dataset(tmp_path / "in", 4), tmp_path / "out"
    for folder in ("images", "labels"):
        (source / f"{folder}Ts").mkdir()
    for number in (2, 3):
        (source / "imagesTr" / f"p00{number}_0000.nii.gz").rename(source / "imagesTs" / f"p00{number}_0000.nii.gz")
        (source / "labelsTr" / f"p00{number}.nii.gz").rename(source / "labelsTs" / f"p00{number}.nii.gz")
    (source / "labelsTs" / "p003.nii.gz").rename(source / "labelsTs" / "p009.nii.gz")
    found = rows(convert(source, out))
    assert {case: status for case, (status, _) in found.items()} == dict.fromkeys(
        ("p000", "p001", "p002", "p003"), "converted"
    ) | {"p009": "failed"}
    assert found["p009"][1] == "p009.nii.gz: a label without image"
    assert [case.case_id for case in open_dataset(out).cases] == ["p000", "p001"]
    assert [case.case_id for case in open_dataset(out).test_cases] == ["p002", "p003"]
    assert snapshot(out / "labelsTs").keys() == {"p002.nii.gz"}
    there, here = (folder / "labelsTs" / "p002.nii.gz" for folder in (source, out))
    assert sha256_file(there) == sha256_file(here)


def test_missing_channels_and_orphans_of_nnunet_folders_are_rows(
    tmp_path: Path, make_phantom_dataset: MakeDataset
) -> None:
    source = make_phantom_dataset(tmp_path / "in", 4, channels=2)
    (source / "imagesTr" / "p001_0001.nii.gz").unlink()
    (source / "labelsTr" / "p002.nii.gz").unlink()
    for channel in (0, 1):
        (source / "imagesTr" / f"p003_{channel:04d}.nii.gz").unlink()
    assert rows(convert(source, tmp_path / "out")) == {
        "p000": ("converted", ""),
        "p001": ("failed", "has channels 0000; dataset.json names 2"),
        "p002": ("failed", "p002_0000.nii.gz: an image without label"),
        "p003": ("failed", "p003.nii.gz: a label without image"),
    }


def test_unknown_folders_and_unsuitable_targets_are_refused(tmp_path: Path, make_phantom_dataset: MakeDataset) -> None:
    source = decathlon(tmp_path / "in", make_phantom_dataset, 1)
    with pytest.raises(DatasetError, match="nowhere: no such folder"):
        convert(tmp_path / "nowhere", tmp_path / "out")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match=r"empty: no known dataset layout; found nothing\. Known: nnunet_v2"):
        convert(tmp_path / "empty", tmp_path / "out")
    with pytest.raises(DatasetError, match="no source format 'x'"):
        convert(source, tmp_path / "out", "x")
    with pytest.raises(DatasetError, match="lies inside the source"):
        convert(source, source / "out")
    convert(source, tmp_path / "out")
    other = decathlon(tmp_path / "other", make_phantom_dataset, 1)
    with pytest.raises(DatasetError, match="already holds a conversion of"):
        convert(other, tmp_path / "out")
    (tmp_path / "out" / "conversion.json").unlink()
    with pytest.raises(DatasetError, match="not made by `moe convert`"):
        convert(other, tmp_path / "out")
    (source / "dataset.json").write_text(json.dumps({"modality": {"0": "x"}, "labels": {"a": "b"}, "training": []}))
    with pytest.raises(RecordError, match="label values must be whole numbers, found a"):
        convert(source, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_listed_path_outside_the_source_that_is_missing_is_a_row(
    tmp_path: Path, make_phantom_dataset: MakeDataset
) -> None:
    source = decathlon(tmp_path / "in", make_phantom_dataset, 2)
    gone = tmp_path / "gone" / "p000.nii.gz"
    entries = [
        {"image": str(gone), "label": "labelsTr/p000.nii.gz"},
        {"image": "imagesTr/p001.nii.gz", "label": "labelsTr/p001.nii.gz"},
    ]
    write_json(source, training=entries)
    found = rows(convert(source, tmp_path / "out"))
    assert found["p000"] == ("failed", f"{gone}: listed in dataset.json, but not there")
    assert found["p001"][0] == "converted"


def test_channels_without_number_are_named(tmp_path: Path, make_phantom_dataset: MakeDataset) -> None:
    source = decathlon(tmp_path / "in", make_phantom_dataset, 1)
    write_json(source, modality={"CT": "0"})
    with pytest.raises(RecordError, match=r'modality: .*such as \{"0": "CT"\}, found CT'):
        convert(source, tmp_path / "out")


def test_a_source_without_one_good_case_is_an_error(tmp_path: Path, make_phantom_dataset: MakeDataset) -> None:
    source = decathlon(tmp_path / "in", make_phantom_dataset, 1)
    (source / "labelsTr" / "p000.nii.gz").unlink()
    with pytest.raises(DatasetError, match=r"no training case could be converted\n  p000: labelsTr/p000"):
        convert(source, tmp_path / "out")
    assert not (tmp_path / "out" / "dataset.json").exists()


def test_planted_orphans_of_the_real_set_are_rows(tmp_path: Path, real_data: Path) -> None:
    source = tmp_path / "Task04"
    shutil.copytree(real_data / "bad_input" / "hippocampus_orphans", source)
    good = "hippocampus_001.nii.gz"
    for folder in ("imagesTr", "labelsTr"):
        shutil.copy(real_data / "Task04_Hippocampus" / folder / good, source / folder / good)
    names = [path.name for path in [*(source / "imagesTr").iterdir(), *(source / "labelsTr").iterdir()]]
    write_json(
        source,
        labels={"0": "background", "1": "Anterior", "2": "Posterior"},
        training=[{"image": f"imagesTr/{n}", "label": f"labelsTr/{n}"} for n in sorted(set(names))],
    )
    found = rows(convert(source, tmp_path / "out"))
    assert found["hippocampus_001"] == ("converted", "")
    assert found["hippocampus_118"] == (
        "failed",
        "labelsTr/hippocampus_118.nii.gz: listed in dataset.json, but not there",
    )
    assert found["hippocampus_281"] == (
        "failed",
        "imagesTr/hippocampus_281.nii.gz: listed in dataset.json, but not there",
    )


def test_labels_are_remapped_and_unknown_values_named(tmp_path: Path, make_phantom_dataset: MakeDataset) -> None:
    source, out = make_phantom_dataset(tmp_path / "in", 3), tmp_path / "out"
    label = sitk.ReadImage(str(source / "labelsTr" / "p001.nii.gz"))
    sitk.WriteImage(label * 9, str(source / "labelsTr" / "p001.nii.gz"))
    report = convert(source, out, label_map=LabelMap.model_validate({"shape": ["ball", 3]}))
    status, message = rows(report)["p001"]
    assert status == "failed"
    assert message.startswith("p001.nii.gz: label values 9 are not in --labels (0, 1, 3). Name them, or map them")
    dataset = open_dataset(out)
    assert dataset.classes == {1: "shape"}
    before = sitk.GetArrayFromImage(sitk.ReadImage(str(source / "labelsTr" / "p000.nii.gz")))
    after = sitk.GetArrayFromImage(sitk.ReadImage(str(dataset.cases[0].label)))
    np.testing.assert_array_equal(after, before > 0)
    again = convert(source, out, label_map=LabelMap.model_validate({"bar": 3, "ball": 1}))
    assert rows(again)["p000"][0] == "converted"
    assert open_dataset(out).classes == {1: "bar", 2: "ball"}


def test_options_that_a_source_does_not_take_are_refused(tmp_path: Path, make_phantom_dataset: MakeDataset) -> None:
    source = make_phantom_dataset(tmp_path / "in", 1)
    with pytest.raises(DatasetError, match="nnunet_v2 takes no --masks; options it takes: none"):
        convert(source, tmp_path / "out", options=Options(masks="*"))


UNSUITED = {
    "order": (
        {"background": 0, "whole": [1, 3], "core": [3]},
        r"regions_class_order: expected 2 different .* found \[1, 1\]|regions \(whole = \[1, 3\]\)",
    ),
    "zero inside": ({"background": 0, "whole": [0, 3]}, r"whole = \[0, 3\]"),
    "ignore": ({"background": 0, "a": 1, "ignore": 3}, r"ignore \(3\) marks voxels without annotation"),
    "twice": ({"background": 0, "a": 1, "b": 1, "c": 3}, "a and b share the value 1"),
    "background": ({"background": 1, "a": 0, "c": 3}, "background is 1, but must be 0"),
    "zero": ({"nothing": 0, "a": 1, "c": 3}, "the value 0 is called 'nothing'"),
}


@pytest.mark.parametrize("case", UNSUITED)
def test_labels_that_are_no_plain_classes_are_refused_alike_everywhere(
    tmp_path: Path, make_phantom_dataset: MakeDataset, case: str
) -> None:
    labels, message = UNSUITED[case]
    source = make_phantom_dataset(tmp_path / "Dataset001_In", 2)
    description = json.loads((source / "dataset.json").read_text())
    (source / "dataset.json").write_text(json.dumps(description | {"labels": labels, "regions_class_order": [1, 1]}))
    for work in (lambda: convert(source, tmp_path / "out"), lambda: open_dataset(source)):
        with pytest.raises(DatasetError, match=message):
            work()
    with pytest.raises(RecordError, match=message):
        scored_classes_beside(source / "labelsTr")
    assert not (tmp_path / "out").exists()
    found = check(source, tmp_path / "check")
    assert [one.kind for one in found.errors] == [Kind.LAYOUT]
    assert re.search(message, found.errors[0].found)


def test_a_converted_file_that_was_changed_is_told_and_left(tmp_path: Path, make_phantom_dataset: MakeDataset) -> None:
    source, out = make_phantom_dataset(tmp_path / "in", 2), tmp_path / "out"
    convert(source, out)
    shutil.copy(out / "labelsTr" / "p000.nii.gz", out / "labelsTr" / "p001.nii.gz")
    mine = (out / "labelsTr" / "p001.nii.gz").read_bytes()
    found = rows(convert(source, out))
    assert found["p000"] == ("present", "")
    assert found["p001"] == ("present", "labelsTr/p001.nii.gz: changed since it was converted, and left so")
    assert (out / "labelsTr" / "p001.nii.gz").read_bytes() == mine


def test_regions_are_kept_and_scored_and_refused_for_training(
    tmp_path: Path, make_phantom_dataset: MakeDataset
) -> None:
    source = make_phantom_dataset(tmp_path / "in", 2)
    description = json.loads((source / "dataset.json").read_text())
    regions = {"labels": {"background": 0, "whole": [1, 3], "core": 3}, "regions_class_order": [2, 5]}
    (source / "dataset.json").write_text(json.dumps(description | regions))
    assert any("whole: regions are kept" in note for note in convert(source, tmp_path / "out").notes)
    written = json.loads((tmp_path / "out" / "dataset.json").read_text())
    assert {key: written[key] for key in regions} == regions
    expected = ({2: "whole", 5: "core"}, {2: (1, 3), 5: (3,)})
    assert (
        scored_classes_beside(source / "labelsTr") == scored_classes_beside(tmp_path / "out" / "labelsTr") == expected
    )
    for folder in (source, tmp_path / "out"):
        with pytest.raises(DatasetError, match=r"regions \(whole = \[1, 3\]\) are converted and scored.*--labels"):
            open_dataset(folder)
    labels = source / "labelsTr"
    table = evaluate_folder(labels, labels, expected[0], regions=expected[1])
    assert set(table["class_name"]) == {"whole", "core"}
    assert set(table["status"]) <= {"ok", "absent"}


def test_a_label_map_says_what_the_values_of_regions_are(tmp_path: Path, make_phantom_dataset: MakeDataset) -> None:
    source = make_phantom_dataset(tmp_path / "in", 2)
    description = json.loads((source / "dataset.json").read_text())
    labels = {"background": 0, "whole": [1, 3], "core": [3]}
    (source / "dataset.json").write_text(json.dumps(description | {"labels": labels}))
    with pytest.raises(DatasetError, match=r"nothing is said about 3 \(3\)"):
        convert(source, tmp_path / "out", label_map=LabelMap.model_validate({"rim": 1}))
    convert(source, tmp_path / "out", label_map=LabelMap.model_validate({"rim": 1, "core": 3}))
    assert open_dataset(tmp_path / "out").classes == {1: "rim", 2: "core"}


MIXED: dict[str, tuple[dict[str, Any], str]] = {
    "reversed": (
        {"labels": {"background": 0, "ball": 1}},
        r'labels: .*a name for each number, such as .* found \{"back',
    ),
    "list": ({"modality": ["MRI"]}, r'modality: .*a name for each number, such as \{"0": "CT"\}, found \["MRI"\]'),
    "paths": ({"training": ["./imagesTr/a.nii.gz"]}, r'training: .*entries such as .* found "\./imagesTr/a\.nii\.gz"'),
    "both": ({"channel_names": {"0": "CT"}, "numTraining": 1, "file_ending": ".nii.gz"}, "a value for each name"),
}


@pytest.mark.parametrize("case", MIXED)
def test_forms_of_dataset_json_that_are_mixed_up_are_shown(
    tmp_path: Path, make_phantom_dataset: MakeDataset, case: str
) -> None:
    changes, message = MIXED[case]
    source = decathlon(tmp_path / "Task01_Phantom", make_phantom_dataset)
    description = json.loads((source / "dataset.json").read_text())
    (source / "dataset.json").write_text(json.dumps(description | changes))
    with pytest.raises(RecordError, match=message):
        convert(source, tmp_path / "out")


BROKEN = {
    "comma": (
        lambda text: text.replace("}", ",}", 1),
        r"dataset\.json: not JSON: line \d+, column \d+: .*in a text editor",
    ),
    "comment": (lambda text: "// classes\n" + text, r"dataset\.json: not JSON: line 1, column 1"),
    "quotes": (lambda text: text.replace('"', "'"), r"dataset\.json: not JSON: line 1, column 2"),
    "cut": (lambda text: text[: len(text) // 2], r"dataset\.json: not JSON: line 1, column"),
    "empty": (lambda _: "", r"dataset\.json: not JSON: line 1, column 1"),
    "twice": (lambda text: text.replace("{", '{"labels": {"x": 1},', 1), "the key 'labels' comes twice"),
    "other": (lambda _: '{"name": "mine", "labels": {"liver": 1}}', "names neither `channel_names`.*only labels, name"),
    "deep": (lambda _: "[" * 100_000, "nested too deep"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_description_that_cannot_be_read_is_never_passed_over(
    tmp_path: Path, make_phantom_dataset: MakeDataset, case: str
) -> None:
    source = make_phantom_dataset(tmp_path / "Dataset001_In", 2)
    spoil, message = BROKEN[case]
    path = source / "dataset.json"
    path.write_text(spoil(json.dumps(json.loads(path.read_text()))))
    with pytest.raises(PipelineError, match=message):
        convert(source, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert re.search(message, check(source, tmp_path / "check").errors[0].found)


def test_a_description_that_is_closed_or_a_link_to_nothing_is_named(
    tmp_path: Path, make_phantom_dataset: MakeDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = make_phantom_dataset(tmp_path / "Dataset001_In", 2)
    content = (source / "dataset.json").read_bytes()
    (source / "dataset.json").unlink()
    (source / "dataset.json").symlink_to("../.git/annex/objects/x.json")
    with pytest.raises(RecordError, match=r"dataset\.json: no such file, but a link to .*x\.json, which is not there"):
        convert(source, tmp_path / "out")
    (source / "dataset.json").unlink()
    (source / "dataset.json").write_bytes(content)

    def closed(_: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", closed)  # tests may run as root, who reads everything
    with pytest.raises(RecordError, match=r"dataset\.json: cannot be read \(Permission denied\).*Make it readable"):
        convert(source, tmp_path / "out")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
def test_descriptions_in_any_unicode_are_read(tmp_path: Path, make_phantom_dataset: MakeDataset, encoding: str) -> None:
    source = make_phantom_dataset(tmp_path / "in", 2)
    text = (source / "dataset.json").read_text().replace("ball", "Kugel ü")
    (source / "dataset.json").write_text(text, encoding=encoding)
    convert(source, tmp_path / "out")
    assert open_dataset(tmp_path / "out").classes == {1: "Kugel ü", 3: "bar"}
    assert open_dataset(source).classes == {1: "Kugel ü", 3: "bar"}


def test_the_folder_above_a_dataset_names_it(tmp_path: Path, make_phantom_dataset: MakeDataset) -> None:
    make_phantom_dataset(tmp_path / "download" / "Dataset001_In", 2)
    (tmp_path / "download" / "__MACOSX").mkdir()
    with pytest.raises(DatasetError, match=r"is no dataset, but holds .*Dataset001_In \(nnunet_v2\)\. Give the folder"):
        convert(tmp_path / "download", tmp_path / "out")


def test_a_name_in_either_form_of_unicode_is_one_case(tmp_path: Path, make_phantom_dataset: MakeDataset) -> None:
    source = make_phantom_dataset(tmp_path / "in", 2)
    composed, decomposed = "M\u00fcller", "Mu\u0308ller"
    (source / "imagesTr" / "p001_0000.nii.gz").rename(source / "imagesTr" / f"{decomposed}_0000.nii.gz")
    (source / "labelsTr" / "p001.nii.gz").rename(source / "labelsTr" / f"{composed}.nii.gz")
    assert not convert(source, tmp_path / "out").failed
    assert (tmp_path / "out" / "imagesTr" / f"{composed}_0000.nii.gz").is_file()
    shutil.copy(source / "labelsTr" / f"{composed}.nii.gz", source / "labelsTr" / f"{decomposed}.nii.gz")
    (failed,) = convert(source, tmp_path / "out").failed
    assert "two forms of Unicode; keep one" in failed.message


@pytest.mark.parametrize("name", ["brain.mgz", "brain.hdr", "brain.tif"])
def test_formats_that_are_not_read_are_named(tmp_path: Path, name: str) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / name).write_bytes(b"x")
    with pytest.raises(DatasetError, match=rf"\{Path(name).suffix}: .* convert it to NIfTI"):
        convert(tmp_path / "in", tmp_path / "out")


def listed_source(folder: Path, make: MakeDataset, case_id: str) -> Path:
    """A dataset whose only case is listed under an id of one's choice."""
    source = make(folder / "Dataset001_X", 2)
    description = json.loads((source / "dataset.json").read_text())
    entry = {"images": ["imagesTr/p001_0000.nii.gz"], "label": "labelsTr/p001.nii.gz"}
    (source / "dataset.json").write_text(json.dumps(description | {"dataset": {case_id: entry}}))
    return source


def files_in(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    "case_id", ["../../../in/Dataset001_X/imagesTr/p001", "a/b", "", ".hidden", "a\nb", "{source}"]
)
def test_a_listed_id_that_is_a_path_is_refused(tmp_path: Path, make_phantom_dataset: MakeDataset, case_id: str) -> None:
    case_id = case_id.format(source=tmp_path / "in" / "Dataset001_X" / "imagesTr" / "p001")
    source = listed_source(tmp_path / "in", make_phantom_dataset, case_id)
    before = files_in(tmp_path)
    for _ in range(2):
        with pytest.raises(DatasetError, match=r"dataset\.json: key `dataset`: .* cannot be a case id: .*; rename it"):
            convert(source, tmp_path / "out" / "Dataset001_X")
    with pytest.raises(DatasetError, match=r"dataset\.json: key `dataset`: .* cannot be a case id"):
        open_dataset(source)
    assert files_in(tmp_path) == before


def test_a_file_whose_name_cannot_be_a_case_id_is_a_row(tmp_path: Path, make_phantom_dataset: MakeDataset) -> None:
    source = make_phantom_dataset(tmp_path / "in", 2)
    (source / "imagesTr" / "p000_0000.nii.gz").rename(source / "imagesTr" / "a\nb_0000.nii.gz")
    (source / "labelsTr" / "p000.nii.gz").rename(source / "labelsTr" / "a\nb.nii.gz")
    found = rows(convert(source, tmp_path / "out"))
    assert found["p001"][0] == "converted"
    assert found["a\nb"] == ("failed", r"'a\nb' cannot be a case id: it holds control characters; rename its files")
    dataset = open_dataset(source)
    assert [case.case_id for case in dataset.cases] == ["p001"]
    assert r"'a\nb' cannot be a case id" in dataset.faults[0].message


def test_a_class_without_a_printable_name_is_refused(tmp_path: Path, make_phantom_dataset: MakeDataset) -> None:
    source = make_phantom_dataset(tmp_path / "in", 1)
    description = json.loads((source / "dataset.json").read_text())
    (source / "dataset.json").write_text(json.dumps(description | {"labels": {"background": 0, "a\nb": 1, "bar": 3}}))
    with pytest.raises(DatasetError, match=r"'a\\nb' cannot be the name of a class: it holds control characters"):
        convert(source, tmp_path / "out")
    with pytest.raises(DatasetError, match=r"labels: 'a\\nb' cannot be the name of a class"):
        open_dataset(source)


def test_fields_over_several_folders_are_joined(tmp_path: Path, make_phantom_dataset: MakeDataset) -> None:
    made = make_phantom_dataset(tmp_path / "made", 2)
    for place in ("A/p0", "B/p0"):
        (tmp_path / "in" / place / "organs").mkdir(parents=True)
        shutil.copy(made / "imagesTr" / "p001_0000.nii.gz", tmp_path / "in" / place / "ct.nii.gz")
        shutil.copy(made / "labelsTr" / "p001.nii.gz", tmp_path / "in" / place / "organs" / "liver.nii.gz")
    options = Options("{case:.+}/ct.nii.gz", "{case:.+}/{class:organs/.+}.nii.gz")
    report = convert(tmp_path / "in", tmp_path / "out", options=options)
    assert {row.case_id for row in report.rows} == {"A_p0", "B_p0"}
    assert sorted(path.name for path in (tmp_path / "out" / "labelsTr").iterdir()) == ["A_p0.nii.gz", "B_p0.nii.gz"]
    assert json.loads((tmp_path / "out" / "dataset.json").read_text())["labels"] == {"background": 0, "organs_liver": 1}
    (tmp_path / "in" / "A_p0" / "organs").mkdir(parents=True)
    for name in ("ct.nii.gz", "organs/liver.nii.gz"):
        shutil.copy(tmp_path / "in" / "A" / "p0" / name, tmp_path / "in" / "A_p0" / name)
    found = {row.case_id: row for row in convert(tmp_path / "in", tmp_path / "out2", options=options).rows}
    assert found["A_p0"].status == "failed"
    assert re.search("2 cases have this id: .*A/p0/ct.nii.gz and .*A_p0/ct.nii.gz", found["A_p0"].message)
    assert found["B_p0"].status == "converted"


def test_what_others_put_into_a_converted_dataset_stays(tmp_path: Path, make_phantom_dataset: MakeDataset) -> None:
    source, out = make_phantom_dataset(tmp_path / "in", 3), tmp_path / "out"
    convert(source, out)
    theirs = {
        "labelsTr/p000.nii.gz": (source / "labelsTr" / "p002.nii.gz").read_bytes(),  # corrected by hand
        "labelsTr/p001.nii.gz": b"theirs",
        "imagesTr/p001_0007.nii.gz": b"theirs",
        "imagesTr/p009_0000.nii.gz": b"theirs",
        "notes.txt": b"theirs",
    }
    for name, content in theirs.items():
        (out / name).write_bytes(content)
    for path in (source / "imagesTr" / "p000_0000.nii.gz", source / "imagesTr" / "p001_0000.nii.gz"):
        path.write_bytes(path.read_bytes()[:-20])  # both fail now
    (source / "imagesTr" / "p002_0000.nii.gz").rename(source / "imagesTr" / "p009_0000.nii.gz")
    (source / "labelsTr" / "p002.nii.gz").rename(source / "labelsTr" / "p009.nii.gz")
    for _ in range(2):
        with pytest.raises(DatasetError, match="no training case could be converted"):
            convert(source, out)
        assert {name: (out / name).read_bytes() for name in theirs} == theirs
    (out / "dataset.json").write_text("{}")
    with pytest.raises(PipelineError, match=r"dataset\.json: is in the way and was not written by moe.*--out"):
        convert(source, out)
    assert (out / "dataset.json").read_text() == "{}"


def test_listed_paths_may_hold_variables_and_a_null_label_is_named(
    tmp_path: Path, make_phantom_dataset: MakeDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = make_phantom_dataset(tmp_path / "Dataset001_X", 2)
    monkeypatch.setenv("MY_DATA", str(source))
    description = json.loads((source / "dataset.json").read_text())
    entry = {"images": ["$MY_DATA/imagesTr/p000_0000.nii.gz"], "label": "${MY_DATA}/labelsTr/p000.nii.gz"}
    listed = {"a": entry, "b": entry | {"label": None}}
    (source / "dataset.json").write_text(json.dumps(description | {"dataset": listed}))
    report = convert(source, tmp_path / "out")
    assert rows(report)["a"][0] == "converted"
    assert "its `label` is null" in rows(report)["b"][1]
    assert [fault.message for fault in open_dataset(source).faults] == [rows(report)["b"][1]]


def test_labels_with_a_channel_number_are_named(tmp_path: Path, make_phantom_dataset: MakeDataset) -> None:
    source = make_phantom_dataset(tmp_path / "Dataset001_X", 2)
    (source / "labelsTr" / "p001.nii.gz").rename(source / "labelsTr" / "p001_0000.nii.gz")
    message = r"p001_0000 is there: labels carry no channel number, rename it"
    assert re.search(message, rows(convert(source, tmp_path / "out"))["p001"][1])
    assert re.search(message, open_dataset(source).faults[-1].message)


def test_a_case_that_is_listed_twice_is_one(tmp_path: Path, make_phantom_dataset: MakeDataset) -> None:
    source = decathlon(tmp_path / "in", make_phantom_dataset, 2)
    listed = json.loads((source / "dataset.json").read_text())["training"]
    listed[0] = {key: path.replace("/", "\\") for key, path in listed[0].items()}  # as Windows writes them
    write_json(source, training=[*listed, listed[1]])
    report = convert(source, tmp_path / "out")
    assert [row.status for row in report.rows] == ["converted", "converted"]


def test_children_of_brats_have_values_of_their_own(tmp_path: Path, make_phantom_dataset: MakeDataset) -> None:
    made = make_phantom_dataset(tmp_path / "made", 1)
    case = tmp_path / "in" / "BraTS-PED-00001-000"
    case.mkdir(parents=True)
    for contrast in ("t1c", "t1n", "t2f", "t2w"):
        shutil.copy(made / "imagesTr" / "p000_0000.nii.gz", case / f"{case.name}-{contrast}.nii.gz")
    shutil.copy(made / "labelsTr" / "p000.nii.gz", case / f"{case.name}-seg.nii.gz")
    convert(tmp_path / "in", tmp_path / "out")
    assert open_dataset(tmp_path / "out").classes == {
        **{1: "enhancing tumour", 2: "non-enhancing tumour", 3: "cystic component", 4: "oedema"}
    }


@pytest.mark.parametrize("fix", ["sform", "qform"])
def test_a_header_that_contradicts_itself_is_written_as_the_fix_says(
    tmp_path: Path, make_phantom_dataset: MakeDataset, fix: Fix
) -> None:
    source, q_offset = make_phantom_dataset(tmp_path / "in", 2), 268
    for path in (source / "imagesTr" / "p000_0000.nii.gz", source / "labelsTr" / "p000.nii.gz"):
        content = bytearray(gzip.decompress(path.read_bytes()))
        (place,) = struct.unpack_from("<f", content, q_offset)
        struct.pack_into("<f", content, q_offset, place + 30)  # the qform alone: 30 mm to the right
        path.write_bytes(gzip.compress(bytes(content)))
    failed = rows(convert(source, tmp_path / "out"))["p000"]
    assert failed[0] == "failed"
    assert "its header contradicts itself: sform" in failed[1]
    report = convert(source, tmp_path / "fixed", fixes=[fix])
    assert f"placed by its {fix}" in rows(report)["p000"][1]
    images = [
        sitk.ReadImage(str(tmp_path / "fixed" / name)) for name in ("imagesTr/p000_0000.nii.gz", "labelsTr/p000.nii.gz")
    ]
    assert {image.GetOrigin()[0] for image in images} == {-place - (30 if fix == "qform" else 0)}
    assert not read_with_notes(tmp_path / "fixed" / "imagesTr" / "p000_0000.nii.gz")[1]
