"""One test per kind of fault on phantoms, and every bad folder of the real data."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk

from dataset_conversion.checking import check as stage
from dataset_conversion.checking.case_check import check_case
from dataset_conversion.checking.check import check
from dataset_conversion.checking.findings_text import as_table, findings_as_text
from dataset_conversion.label_map import LabelMap
from moe_pipeline.errors import DatasetError
from moe_pipeline.files import sha256_file
from moe_pipeline.imaging.io.native import read_native, write_native
from moe_pipeline.imaging.volume import Volume
from moe_pipeline.records.check import CheckReport

MakeDataset = Callable[..., Path]
Shear = Callable[[Path, float], None]
Change = Callable[[np.ndarray], np.ndarray]


def change(path: Path, how: Change) -> None:
    """Rewrite a file with other voxels on the same grid."""
    volume = read_native(path)
    write_native(Volume(how(volume.array.copy()), volume.geometry), path)


def image(folder: Path, case_id: str) -> Path:
    return folder / "imagesTr" / f"{case_id}_0000.nii.gz"


def label(folder: Path, case_id: str) -> Path:
    return folder / "labelsTr" / f"{case_id}.nii.gz"


def edit_header(path: Path, what: str, how: Callable[[Any], Any]) -> None:
    read = sitk.ReadImage(str(path))
    getattr(read, f"Set{what}")(how(getattr(read, f"Get{what}")()))
    sitk.WriteImage(read, str(path))


def edit_json(folder: Path, **changes: Any) -> None:
    path = folder / "dataset.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def findings(report: CheckReport, severity: str = "error") -> list[tuple[str, str, str]]:
    return [(one.case_id, one.kind, one.fix or "") for one in report.findings if one.severity == severity]


def messages(report: CheckReport, case_id: str) -> str:
    return "\n".join(one.message for one in report.findings if one.case_id == case_id)


@pytest.fixture
def folder(tmp_path: Path, make_phantom_dataset: MakeDataset) -> Path:
    return make_phantom_dataset(tmp_path / "Dataset001_P", 4)


def test_a_sound_dataset_has_no_findings_and_is_left_as_it_is(folder: Path, tmp_path: Path) -> None:
    before = {path: (sha256_file(path), path.stat().st_mtime_ns) for path in folder.rglob("*") if path.is_file()}
    report = check(folder, tmp_path / "out")
    assert report.findings == ()
    assert report.summary().startswith(f"{folder}: 4 cases, nothing wrong (nnunet_v2, ")
    assert before == {
        path: (sha256_file(path), path.stat().st_mtime_ns) for path in folder.rglob("*") if path.is_file()
    }
    assert CheckReport.load(tmp_path / "out" / "check.json") == report


def test_all_faults_of_all_cases_are_found_at_once(folder: Path, tmp_path: Path) -> None:
    content = image(folder, "p000").read_bytes()
    image(folder, "p000").write_bytes(content[:-50])
    change(label(folder, "p000"), lambda a: a * 2)
    change(image(folder, "p001"), lambda a: np.where(a > 100, np.nan, a))
    change(label(folder, "p001"), lambda a: a * np.float32(0.5))
    edit_header(label(folder, "p001"), "Origin", lambda mm: (mm[0] + 40, mm[1], mm[2]))
    label(folder, "p002").unlink()
    report = check(folder, tmp_path / "out")
    assert findings(report) == [
        ("p000", "truncated", ""),
        ("p000", "unknown_labels", ""),
        ("p001", "geometry", "resample-labels"),
        ("p001", "not_finite", ""),
        ("p001", "soft_labels", ""),
        ("p002", "orphan_file", ""),
    ]
    assert "p000.nii.gz: label values 2, 6 are not in dataset.json (0, 1, 3)" in messages(report, "p000")
    assert "1 case" not in report.summary()


@pytest.mark.parametrize(
    ("what", "how", "word"),
    [
        ("Origin", lambda mm: (mm[0] + 9, mm[1], mm[2]), "origin"),
        ("Spacing", lambda mm: (mm[0] * 1.5, mm[1], mm[2]), "spacing"),
        ("Direction", lambda d: (-d[0], d[1], d[2], -d[3], d[4], d[5], -d[6], d[7], d[8]), "direction"),
    ],
)
def test_geometry_differences_are_named(
    folder: Path, tmp_path: Path, what: str, how: Callable[[Any], Any], word: str
) -> None:
    edit_header(label(folder, "p000"), what, how)
    report = check(folder, tmp_path / "out")
    assert findings(report) == [("p000", "geometry", "resample-labels")]
    assert f"image and label lie on different grids: {word}" in messages(report, "p000")


def test_another_size_is_named_and_a_nearly_equal_header_can_be_snapped(folder: Path, tmp_path: Path) -> None:
    shutil.copy(label(folder, "p003"), label(folder, "p000"))
    edit_header(label(folder, "p001"), "Origin", lambda mm: (mm[0] + 0.05, mm[1], mm[2]))
    report = check(folder, tmp_path / "out")
    assert findings(report) == [("p000", "geometry", "resample-labels"), ("p001", "geometry", "snap")]
    assert "shape 20x26x14 against 26x26x14; origin" in messages(report, "p000")


def test_channels_on_different_grids(tmp_path: Path, make_phantom_dataset: MakeDataset) -> None:
    folder = make_phantom_dataset(tmp_path / "Dataset001_P", 2, channels=2)
    edit_header(folder / "imagesTr" / "p001_0001.nii.gz", "Spacing", lambda mm: (mm[0], mm[1], mm[2] * 2))
    report = check(folder, tmp_path / "out")
    assert findings(report) == [("p001", "geometry", "")]
    assert "p001_0001.nii.gz: channel 0 and channel 1 lie on different grids: spacing" in messages(report, "p001")


def test_missing_and_orphan_files(tmp_path: Path, make_phantom_dataset: MakeDataset) -> None:
    folder = make_phantom_dataset(tmp_path / "Dataset001_P", 4, channels=2)
    (folder / "imagesTr" / "p000_0001.nii.gz").unlink()
    label(folder, "p001").unlink()
    for number in (0, 1):
        (folder / "imagesTr" / f"p002_000{number}.nii.gz").unlink()
    report = check(folder, tmp_path / "out")
    assert findings(report) == [
        ("p000", "missing_file", ""),
        ("p001", "orphan_file", ""),
        ("p002", "orphan_file", ""),
    ]
    assert "p002.nii.gz: a label without image" in messages(report, "p002")
    assert report.cases == 4


def test_an_orphan_is_looked_through_as_well(folder: Path, tmp_path: Path) -> None:
    image(folder, "p001").unlink()
    change(label(folder, "p001"), lambda a: a * 0.5)
    assert findings(check(folder, tmp_path / "out")) == [("p001", "orphan_file", ""), ("p001", "soft_labels", "")]


def test_what_is_no_image_is_unreadable_and_what_ends_early_is_truncated(folder: Path, tmp_path: Path) -> None:
    image(folder, "p000").write_text("no image")
    image(folder, "p001").write_bytes(b"")
    plain = folder / "plain.nii"
    sitk.WriteImage(sitk.ReadImage(str(image(folder, "p002"))), str(plain))
    image(folder, "p002").write_bytes(plain.read_bytes()[:-100])
    found = findings(check(folder, tmp_path / "out"))
    assert found == [("p000", "unreadable", ""), ("p001", "unreadable", ""), ("p002", "truncated", "")]


@pytest.mark.parametrize("suffix", [".nrrd", ".mha"])
def test_truncated_files_of_other_formats(
    tmp_path: Path, make_phantom_dataset: MakeDataset, suffix: str, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = make_phantom_dataset(tmp_path / "Dataset001_P", 2)
    for path in [*folder.rglob("*.nii.gz")]:
        sitk.WriteImage(sitk.ReadImage(str(path)), str(path).replace(".nii.gz", suffix), useCompression=True)
        path.unlink()
    edit_json(folder, file_ending=suffix)
    bad = folder / "imagesTr" / f"p001_0000{suffix}"
    bad.write_bytes(bad.read_bytes()[:-2000])
    assert findings(check(folder, tmp_path / "out")) == [("p001", "truncated", "")]
    capfd.readouterr()  # ITK's own words


def test_wrong_dimensions(folder: Path, tmp_path: Path) -> None:
    full = sitk.ReadImage(str(image(folder, "p000")))
    sitk.WriteImage(full[:, :, 3], str(image(folder, "p000")))
    sitk.WriteImage(sitk.JoinSeries([full, full]), str(image(folder, "p001")))
    colour = sitk.ReadImage(str(image(folder, "p002")))
    colour = sitk.Compose([sitk.Cast(colour, sitk.sitkUInt8)] * 3)
    sitk.WriteImage(colour, str(image(folder, "p002")))
    report = check(folder, tmp_path / "out")
    assert [found for found in findings(report) if found[1] == "dimensions"] == [
        ("p000", "dimensions", ""),
        ("p001", "dimensions", "split-4d"),
        ("p002", "dimensions", ""),
    ]
    assert "expected a 3D image, found 2D of size 20x26" in messages(report, "p000")
    assert "4D of size 20x26x14x2: 2 channels, but the dataset has 1 (MR0)" in messages(report, "p001")
    assert "expected one number per voxel, found 3" in messages(report, "p002")


def test_a_label_with_several_volumes(folder: Path, tmp_path: Path) -> None:
    full = sitk.ReadImage(str(label(folder, "p001")))
    sitk.WriteImage(sitk.JoinSeries([full, full, full]), str(label(folder, "p001")))
    report = check(folder, tmp_path / "out")
    assert findings(report) == [("p001", "dimensions", "")]
    assert "p001.nii.gz: expected one 3D label map, found 4D of 3 volumes" in messages(report, "p001")


def test_a_single_slice_is_a_warning(folder: Path, tmp_path: Path) -> None:
    for path in (image(folder, "p000"), label(folder, "p000")):
        sitk.WriteImage(sitk.ReadImage(str(path))[:, :, 4:5], str(path))
    report = check(folder, tmp_path / "out")
    assert findings(report) == []
    assert ("p000", "dimensions", "") in findings(report, "warning")


def test_labels_that_are_no_whole_numbers(folder: Path, tmp_path: Path) -> None:
    change(label(folder, "p000"), lambda a: a.astype(np.float32))
    change(label(folder, "p001"), lambda a: a * np.float32(0.9999))
    change(label(folder, "p002"), lambda a: a * np.float32(0.7))
    report = check(folder, tmp_path / "out")
    assert findings(report) == [("p001", "float_labels", "round"), ("p002", "soft_labels", "")]
    assert findings(report, "note") == [("p000", "float_labels", "round")]
    assert "found 0.7" in messages(report, "p002")


def test_empty_labels_are_warnings_and_an_error_if_all_are(folder: Path, tmp_path: Path) -> None:
    change(label(folder, "p000"), lambda a: a * 0)
    report = check(folder, tmp_path / "out")
    assert findings(report) == []
    assert findings(report, "warning") == [("p000", "empty_label", "")]
    for number in (1, 2, 3):
        change(label(folder, f"p00{number}"), lambda a: a * 0)
    report = check(folder, tmp_path / "out")
    assert findings(report) == [("", "empty_label", "")]
    assert "none of 4 labels has a voxel of any class" in messages(report, "")


def test_values_are_those_of_the_label_map_if_there_is_one(folder: Path, tmp_path: Path) -> None:
    wanted = tmp_path / "map.json"
    wanted.write_text(json.dumps({"thing": [1, 3]}))
    change(label(folder, "p001"), lambda a: a * 3)
    report = check(folder, tmp_path / "out", label_map=LabelMap.load(wanted))
    assert findings(report) == []
    change(label(folder, "p001"), lambda a: a * 3)
    report = check(folder, tmp_path / "out", label_map=LabelMap.load(wanted))
    assert "label values 9 are not in --labels (0, 1, 3)" in messages(report, "p001")


def test_sheared_axes_are_found_and_slight_shear_can_be_snapped(folder: Path, tmp_path: Path, shear: Shear) -> None:
    for path in (image(folder, "p000"), label(folder, "p000")):
        shear(path, 0.003)
    shear(image(folder, "p001"), 0.3)
    report = check(folder, tmp_path / "out")
    assert findings(report) == [("p000", "sheared", "snap"), ("p000", "sheared", "snap"), ("p001", "sheared", "")]
    assert "p001_0000.nii.gz: its index axes are not orthogonal" in messages(report, "p001")


def test_the_same_image_under_two_ids(folder: Path, tmp_path: Path) -> None:
    for path in (image, label):
        shutil.copy(path(folder, "p000"), path(folder, "q000"))
    report = check(folder, tmp_path / "out")
    assert findings(report) == []
    beyond, twice = findings(report, "warning")  # one case more than dataset.json counts
    assert beyond == ("", "missing_file", "")
    assert twice == ("q000", "duplicate", "")
    assert messages(report, "q000") == "the same image as p000"
    change(label(folder, "q000"), lambda a: np.where(a == 3, 0, a))
    report = check(folder, tmp_path / "out")
    assert findings(report) == [("q000", "duplicate", "")]
    assert messages(report, "q000") == "the same image as p000, with another label"


def test_an_image_for_training_and_testing(folder: Path, tmp_path: Path) -> None:
    (folder / "imagesTs").mkdir()
    shutil.copy(image(folder, "p000"), folder / "imagesTs" / "t_0000.nii.gz")
    report = check(folder, tmp_path / "out")
    assert findings(report) == [("t", "duplicate", "")]
    assert "one for training and one for testing" in messages(report, "t")


def test_patients_on_both_sides_of_training_and_test(folder: Path, tmp_path: Path) -> None:
    (folder / "imagesTs").mkdir()
    image(folder, "p003").rename(folder / "imagesTs" / "p003_0000.nii.gz")
    label(folder, "p003").unlink()
    assert findings(check(folder, tmp_path / "out")) == []
    edit_json(folder, patients={"p001": "Ann", "p003": "Ann"})
    report = check(folder, tmp_path / "out")
    assert findings(report) == [("p003", "patient_on_both_sides", "")]
    assert "patient Ann is on both sides of training and test cases, there with case p001" in messages(report, "p003")
    with pytest.raises(DatasetError, match="no regular expression"):
        check(folder, tmp_path / "out", patient_pattern="(")


def test_patients_by_pattern_and_in_folds(folder: Path, tmp_path: Path) -> None:
    theirs = [{"train": ["p000", "p001"], "val": ["p002", "p003"]}, {"train": ["p003"], "val": ["p001"]}]
    (folder / "splits_final.json").write_text(json.dumps(theirs))
    ours = {"dataset": "P", "seed": 0, "grouped_by": "", "folds": [{"train": ["p000"], "validation": ["p003"]}]}
    (tmp_path / "splits.json").write_text(json.dumps(ours))
    edit_json(folder, patients={"p000": "Ann", "p003": "Ann", "p001": "Bob", "p002": "Cem"})
    report = check(folder, tmp_path / "out", splits=tmp_path / "splits.json")
    assert findings(report) == [("p003", "patient_on_both_sides", "")] * 2
    told = messages(report, "p003")
    assert "fold 0 of splits.json" in told
    assert "fold 0 of splits_final.json" in told
    (folder / "splits_final.json").write_text('{"fold": 1}')
    with pytest.raises(DatasetError, match=r"splits_final\.json: expected a list of folds"):
        check(folder, tmp_path / "out")


def test_cases_unlike_the_others(tmp_path: Path, make_phantom_dataset: MakeDataset) -> None:
    folder = make_phantom_dataset(tmp_path / "Dataset001_P", 12)
    for path in (image(folder, "p003"), label(folder, "p003")):
        edit_header(path, "Spacing", lambda mm: tuple(side * 10 for side in mm))
    change(image(folder, "p005"), lambda a: a * 50)
    report = check(folder, tmp_path / "out")
    assert findings(report) == []
    assert findings(report, "warning") == [("p003", "outlier", "")] * 3 + [("p005", "outlier", "")]
    assert "the spacing is 25x10x12 mm, usually about" in messages(report, "p003").replace("10x12x25", "25x10x12")
    assert "the field of view is" in messages(report, "p003")
    assert "the volume of label 1 is" in messages(report, "p003")
    assert "the intensity range of MR0 is" in messages(report, "p005")


@pytest.mark.parametrize(
    ("options", "kind", "severity", "text"),
    [
        ({"heights_mm": [0, 3, 9, 12]}, "missing_slices", "error", "1 of 5 are missing"),
        ({"heights_mm": [0, 3, 7, 10]}, "irregular_slices", "error", "3 to 4 mm apart"),
        ({"heights_mm": [0, 4, 8], "tilt_mm": 3}, "tilted_slices", "error", "gantry tilt of 36.9 degrees"),
        ({"heights_mm": [0, 3, 6] * 2}, "several_volumes", "error", "6 slices lie at 3 places"),
        (
            {"heights_mm": [0, 3, 6] * 2, "extra": [{"EchoTime": 10}] * 3 + [{"EchoTime": 90}] * 3},
            "several_volumes",
            "warning",
            "2 volumes in one series of 6 files; each becomes a case of its own: Bob-te10, Bob-te90",
        ),
    ],
)
def test_dicom_series_that_do_not_stack(
    tmp_path: Path, dicom_phantoms: ModuleType, options: dict[str, Any], kind: str, severity: str, text: str
) -> None:
    dicom_phantoms.write_series(tmp_path / "scans" / "ann", [0, 3, 6], uid="1.2.4", patient="Ann")
    dicom_phantoms.write_series(tmp_path / "scans" / "bob", uid="1.2.5", patient="Bob", **options)
    report = check(tmp_path / "scans", tmp_path / "out")
    (found,) = [one for one in report.findings if one.kind == kind]
    assert (found.severity, found.case_id.partition("-")[0]) == (severity, "Bob")
    assert text in found.message


def test_a_second_check_reads_only_what_has_changed(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = check(folder, tmp_path / "out")
    change(label(folder, "p001"), lambda a: a * 7)
    read: list[str] = []
    real = check_case

    def spy(case: Any, dataset: Any, journal: Any) -> Any:
        if journal.find(case.case_id, [*case.images, *case.labels]) is None:
            read.append(case.case_id)
        return real(case, dataset, journal)

    monkeypatch.setattr(stage, "check_case", spy)
    report = check(folder, tmp_path / "out")
    assert read == ["p001"]
    assert findings(report) == [("p001", "unknown_labels", "")]
    assert first.findings == ()


def test_table_and_text_say_what_to_do(folder: Path, tmp_path: Path) -> None:
    change(label(folder, "p001"), lambda a: a * np.float32(0.9999))
    report = check(folder, tmp_path / "out")
    table = as_table(report).splitlines()
    assert "4 cases, 1 error (nnunet_v2" in table[0]
    assert table[2].split()[:4] == ["p001", "error", "float_labels", "round"]
    assert max(len(line) for line in as_table(report, 100).splitlines()[1:]) <= 100
    text = (tmp_path / "out" / "check.txt").read_text()
    assert text == findings_as_text(report)
    assert "to do: moe convert --fix round repairs it, or: Round them." in text


def test_a_folder_in_no_known_layout_is_checked_all_the_same(folder: Path, tmp_path: Path) -> None:
    loose = tmp_path / "loose"
    loose.mkdir()
    shutil.copy(label(folder, "p000"), loose / "a_mask.nii.gz")
    shutil.copy(image(folder, "p001"), loose / "scan_b.nii.gz")
    (loose / "c.mha").write_text("no image")
    report = check(loose, tmp_path / "out")
    assert ("c", "unreadable", "") in findings(report)
    with pytest.raises(DatasetError, match="no such folder"):
        check(tmp_path / "nowhere", tmp_path / "out")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match="no image files and no DICOM series"):
        check(tmp_path / "empty", tmp_path / "out")


@pytest.mark.parametrize(
    ("name", "case_id", "kind", "text"),
    [
        ("dicom_missing_slice", "ProstateX-0000", "missing_slices", "1 of 19 are missing"),
        (
            "dicom_three_volumes_in_one_series",
            "",
            "several_volumes",
            "3 volumes in one series of 57 files",
        ),
        ("empty_label", "sub-unf02_T1w", "empty_label", "no voxel of any class"),
        ("empty_label", "", "empty_label", "none of 2 labels has a voxel"),
        ("hippocampus_orphans", "hippocampus_118", "orphan_file", "an image without label"),
        ("hippocampus_orphans", "hippocampus_010", "orphan_file", "a label without image"),
        ("hippocampus_orphans", "hippocampus_281", "outlier", "the field of view is 376x376x470 mm"),
        ("ms_channels_on_different_grids", "case", "geometry", "shape 320x320x46 against 256x256x48"),
        ("ms_label_on_other_grid", "", "geometry", "shape 320x320x36 against 325x334x53"),
        ("rgb_volume", "rgb_test_file", "dimensions", "expected one number per voxel, found 3"),
        ("soft_label", "mt1", "soft_labels", "found 0.667624 among others"),
    ],
)
def test_every_bad_folder_is_caught(
    tmp_path: Path, real_data: Path, name: str, case_id: str, kind: str, text: str
) -> None:
    report = check(real_data / "bad_input" / name, tmp_path / "out")
    found = [one for one in report.findings if one.kind == kind and one.case_id.startswith(case_id)]
    assert any(text in one.message for one in found)


def test_the_main_dataset_is_sound(tmp_path: Path, real_data: Path) -> None:
    report = check(real_data / "Task04_Hippocampus", tmp_path / "out")
    assert report.cases == 135
    assert report.errors == ()
    assert findings(report, "note") == [(f"hippocampus_{n}", "float_labels", "round") for n in ("003", "243")]
