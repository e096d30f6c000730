import json
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pydicom
import pytest

from dataset_conversion.checking.check import check
from dataset_conversion.convert import convert
from dataset_conversion.label_map import LabelMap
from dataset_conversion.layout import Options
from dataset_conversion.registry import choose_source
from moe_pipeline.errors import DatasetError, PipelineError
from moe_pipeline.imaging.io.files import read_label_map, read_volume
from moe_pipeline.imaging.overlap import dice
from moe_pipeline.planning.plan_dataset import plan_dataset
from moe_pipeline.records.check import Kind
from moe_pipeline.records.dataset import ConversionReport

REAL = {
    "ibsi_1_ct_radiomics_phantom": ("", 125256),
    "sts_images/STS_001/CT": ("", 117145),
    "sts_images/STS_001/MR_T1": ("", 117145),
    "breast_UCSF-BR-06": ("", 82527),
}


def rectangle(x: float, y: float, x_end: float, y_end: float, z: float = 10) -> np.ndarray:
    """Around voxels (x..x_end, y..y_end) of a made series, LPS mm."""
    corners = [(x - 0.4, y - 0.4), (x_end + 0.4, y - 0.4), (x_end + 0.4, y_end + 0.4), (x - 0.4, y_end + 0.4)]
    return np.array([(7 + 2 * a, 8 + 3 * b, z) for a, b in corners])


def native_label(path: Path) -> np.ndarray:
    """(x, y, z) in the order of the made series, which runs left and back."""
    return read_label_map(path).array[::-1, ::-1]


def rows(report: ConversionReport) -> dict[str, tuple[str, str]]:
    return {row.case_id: (row.status, row.message) for row in report.rows}


@pytest.fixture
def source(tmp_path: Path, dicom_phantoms: ModuleType) -> Path:
    """P1 with contours, P2 with segments, P3 without either; CT."""
    folder = tmp_path / "in"
    dicom_phantoms.write_series(folder / "a" / "scan", patient="P1", uid="1.1", RescaleSlope="1", RescaleIntercept="-9")
    regions = {"organ": [rectangle(0, 0, 2, 3)], "lesion": [rectangle(1, 1, 1, 2)], "mark": []}
    dicom_phantoms.write_rtstruct(folder / "a" / "rs.dcm", regions, patient="P1", series_uid="1.1")
    dicom_phantoms.write_series(folder / "b", patient="P2", uid="1.2", start=5)
    seg = [(1, np.eye(5, 4), (7, 8, 22))]
    dicom_phantoms.write_seg(folder / "b" / "seg.dcm", ["organ"], seg, patient="P2")
    dicom_phantoms.write_series(folder / "c", patient="P3", uid="1.3")
    return folder


def test_contours_and_segments_become_label_maps(tmp_path: Path, source: Path) -> None:
    out = tmp_path / "out"
    assert choose_source(source) == "dicom"
    report = convert(source, out)
    description = json.loads((out / "dataset.json").read_text())
    assert description["channel_names"] == {"0": "CT"}
    assert description["labels"] == {"background": 0, "lesion": 1, "organ": 2}
    assert description["numTraining"] == 2
    assert description["patients"] == {"P1": "P1", "P2": "P2", "P3": "P3"}
    first, second = native_label(out / "labelsTr" / "P1.nii.gz"), native_label(out / "labelsTr" / "P2.nii.gz")
    assert first[:, :, 0].T.tolist() == [[2, 2, 2, 0], [2, 1, 2, 0], [2, 1, 2, 0], [2, 2, 2, 0], [0, 0, 0, 0]]
    assert not first[:, :, 1:].any()
    assert np.argwhere(second == 2).tolist() == [[k, k, 3] for k in range(4)]
    assert sorted(path.name for path in (out / "imagesTs").iterdir()) == ["P3_0000.nii.gz"]
    np.testing.assert_array_equal(read_volume(out / "imagesTr" / "P1_0000.nii.gz").array[0, 0], [-9, -8, -7, -6])
    found = rows(report)
    assert "2 voxels are in several masks" in found["P1"][1]
    assert "seg.dcm names no series that is here; matched by geometry" in found["P2"][1]
    assert {row.status for row in convert(source, out).rows} == {"present"}


def test_classes_are_renamed_and_dropped(tmp_path: Path, source: Path) -> None:
    convert(source, tmp_path / "out", label_map=LabelMap.model_validate({"liver": ["organ", "lesion"]}))
    assert json.loads((tmp_path / "out" / "dataset.json").read_text())["labels"] == {"background": 0, "liver": 1}
    assert native_label(tmp_path / "out" / "labelsTr" / "P1.nii.gz").sum() == 12


def test_the_threshold_of_fractions_is_an_option(tmp_path: Path, dicom_phantoms: ModuleType) -> None:
    dicom_phantoms.write_series(tmp_path / "in")
    pixels = np.zeros((5, 4))
    pixels[0] = (40, 80, 120, 200)
    dicom_phantoms.write_seg(tmp_path / "in" / "s.dcm", ["a"], [(1, pixels, (7, 8, 10))], fractional=200)
    counts = {}
    for threshold in (None, 0.4, 0.9, 0.4):
        report = convert(tmp_path / "in", tmp_path / "out", options=Options(threshold=threshold))
        assert rows(report)["P1"][0] == "converted"
        counts[threshold] = int(read_label_map(tmp_path / "out" / "labelsTr" / "P1.nii.gz").array.sum())
    assert counts == {None: 2, 0.4: 3, 0.9: 1}


def test_what_is_wrong_is_a_row_and_the_others_go_on(tmp_path: Path, source: Path, dicom_phantoms: ModuleType) -> None:
    (source / "a" / "scan" / "001.dcm").unlink()
    (source / "b" / "copy.dcm").write_bytes((source / "b" / "seg.dcm").read_bytes())
    lost = [rectangle(0, 0, 2, 3, z=500)]
    dicom_phantoms.write_rtstruct(source / "c" / "rs.dcm", {"organ": lost}, patient="P9", series_uid="1.77")
    dicom_phantoms.write_series(source / "d", patient="P4", uid="1.4")
    dicom_phantoms.write_rtstruct(source / "d" / "rs.dcm", {"organ": [rectangle(0, 0, 2, 3)]}, patient="P4")
    found = rows(convert(source, tmp_path / "out"))
    assert {case: status for case, (status, _) in found.items()} == {
        "P1": "failed",
        "P2": "failed",
        "P3": "converted",
        "P4": "converted",
        "c_rs.dcm": "failed",
    }
    assert "1 of 4 are missing" in found["P1"][1]
    assert "organ in several files for one series: copy.dcm, seg.dcm. Keep one of them" in found["P2"][1]
    assert "no series that it was drawn on" in found["c_rs.dcm"][1]


def test_volumes_of_one_series_become_cases_of_one_patient(tmp_path: Path, dicom_phantoms: ModuleType) -> None:
    extra = [{"DiffusionBValue": b} for b in (0.0, 0.0, 800.0, 800.0)]
    dicom_phantoms.write_series(tmp_path / "in", [10, 14, 10, 14], extra=extra)
    frames = [(1, np.ones((5, 4)), (7, 8, 14))]
    dicom_phantoms.write_seg(tmp_path / "in" / "s.dcm", ["a"], frames, series_uid="1.2.3")
    report = convert(tmp_path / "in", tmp_path / "out")
    assert "one of 2 volumes of its series: b-value 800" in rows(report)["P1-b800"][1]
    assert json.loads((tmp_path / "out" / "dataset.json").read_text())["patients"] == {"P1-b0": "P1", "P1-b800": "P1"}
    for case, values in (("P1-b0", [0, 1]), ("P1-b800", [2, 3])):
        assert read_volume(tmp_path / "out" / "imagesTr" / f"{case}_0000.nii.gz").array[0, 0].tolist() == values
        assert read_label_map(tmp_path / "out" / "labelsTr" / f"{case}.nii.gz").array[0, 0].tolist() == [0, 1]


def test_modalities_are_not_mixed(tmp_path: Path, source: Path, dicom_phantoms: ModuleType) -> None:
    dicom_phantoms.write_series(source / "m", patient="P1", uid="1.9", SOPClassUID=dicom_phantoms.MR, Modality="MR")
    report = convert(source, tmp_path / "ct")
    assert report.notes == ("series of other modalities than CT are left out: 1 MR",)
    assert "P1" in rows(report)
    assert list(rows(convert(source, tmp_path / "mr", options=Options(channels=("MR",))))) == ["P1"]
    segment = [(1, np.eye(5, 4), (7, 8, 22))]
    dicom_phantoms.write_seg(source / "m" / "s.dcm", ["organ"], segment, patient="P1", series_uid="1.9")
    with pytest.raises(DatasetError, match="found 3 CT, 1 MR; --channels CT or --channels MR chooses"):
        convert(source, tmp_path / "both")


def test_cases_of_one_patient_are_told_apart_by_series_number(tmp_path: Path, dicom_phantoms: ModuleType) -> None:
    for number in (3, 4):
        folder = tmp_path / "in" / f"{number}"
        dicom_phantoms.write_series(folder, uid=f"1.{number}", SeriesNumber=number, patient="Ann B")
    dicom_phantoms.write_series(tmp_path / "in" / "n", uid="1.7", patient="")
    report = convert(tmp_path / "in", tmp_path / "out")
    assert list(rows(report)) == ["Ann-B-s3", "Ann-B-s4", "n"]
    assert report.notes == ("no case has a label: all are in imagesTs, to predict",)
    assert json.loads((tmp_path / "out" / "dataset.json").read_text())["numTraining"] == 0


def test_a_folder_without_images_is_refused(tmp_path: Path, dicom_phantoms: ModuleType) -> None:
    dicom_phantoms.write_rtstruct(tmp_path / "in" / "rs.dcm", {})
    with pytest.raises(DatasetError, match="no DICOM image that can be read"):
        convert(tmp_path / "in", tmp_path / "out", "dicom")


@pytest.mark.parametrize("name", REAL)
def test_real_contours_and_segments_give_the_known_label(tmp_path: Path, real_data: Path, name: str) -> None:
    source, (_, n_voxels) = real_data / "dicom" / name, REAL[name]
    report = convert(source, tmp_path / "out")
    (case,) = rows(report)
    label = read_label_map(tmp_path / "out" / "labelsTr" / f"{case}.nii.gz")
    assert int((label.array > 0).sum()) == n_voxels
    if (source / "nifti").is_dir():
        (image,), (mask,) = ((source / "nifti" / part).iterdir() for part in ("image", "mask"))
        known, converted = read_volume(image), read_volume(tmp_path / "out" / "imagesTr" / f"{case}_0000.nii.gz")
        np.testing.assert_array_equal(converted.array, known.array)
        assert converted.geometry.differences(known.geometry) == []
        assert dice(label.array > 0, read_label_map(mask).array > 0) == 1


def test_real_overlaps_follow_the_rule(tmp_path: Path, real_data: Path) -> None:
    source = tmp_path / "in"
    source.mkdir()
    folder = real_data / "dicom" / "dcmqi_segmentations"
    for path in (*(folder / "ct-3slice").iterdir(), folder / "partial_overlaps.dcm"):
        (source / path.name).symlink_to(path)
    report = convert(source, tmp_path / "out")
    ((_, message),) = rows(report).values()
    assert "voxels are in several masks" in message
    labels = read_label_map(tmp_path / "out" / "labelsTr" / "99000.nii.gz").array
    names = json.loads((tmp_path / "out" / "dataset.json").read_text())["labels"]
    answers = [read_label_map(folder / f"partial_overlaps-{number}.nrrd").array for number in (1, 2, 3)]
    smallest_first = [("DARK_BLUE", 0, 5), ("LIGHT_BLUE", 0, 4), ("GREEN", 0, 1), ("PURPLE", 2, 3), ("ORANGE", 1, 2)]
    expected = np.zeros_like(labels)
    for name, number, value in reversed(smallest_first):
        expected[answers[number] == value] = names[name]
    np.testing.assert_array_equal(labels, expected)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("bad_input/dicom_missing_slice", "1 of 19 are missing"),
        ("dicom/rt-utils_mock_data", "ROI-1, ROI-2, ROI-3, ROI-4 in several files for one series"),
        ("dicom/sts_images", "needs series of one modality, found 1 CT, 1 MR"),
    ],
)
def test_real_faults_are_named(tmp_path: Path, real_data: Path, name: str, message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        convert(real_data / name, tmp_path / "out")


def test_three_real_volumes_in_one_series_become_three_cases(tmp_path: Path, real_data: Path) -> None:
    report = convert(real_data / "bad_input" / "dicom_three_volumes_in_one_series", tmp_path / "out")
    assert list(rows(report)) == ["ProstateX-0001-b400", "ProstateX-0001-b50", "ProstateX-0001-b800"]
    image = read_volume(tmp_path / "out" / "imagesTs" / "ProstateX-0001-b800_0000.nii.gz")
    assert image.geometry.shape == (84, 128, 19)
    assert image.geometry.spacing_mm == pytest.approx((2, 2, 3), abs=1e-4)


@pytest.mark.parametrize("second", [10, 26])
def test_patients_who_share_a_series_uid_stay_apart(tmp_path: Path, dicom_phantoms: ModuleType, second: float) -> None:
    source = tmp_path / "in"
    for number, (patient, low) in enumerate({"P1": 10, "P2": second}.items()):
        heights = [low, low + 4, low + 8, low + 12]
        extra = [{"AcquisitionTime": f"10{number}000"}] * 4
        dicom_phantoms.write_series(source / patient / "ct", heights, uid="1.1", patient=patient, extra=extra)
        region = [rectangle(number, 0, 2, 3, z=low)]
        name = "organ" if number == 0 else "lesion"
        dicom_phantoms.write_rtstruct(source / patient / "rs.dcm", {name: region}, series_uid="1.1", patient=patient)
    report = convert(source, tmp_path / "out")
    assert {case: status for case, (status, _) in rows(report).items()} == {"P1": "converted", "P2": "converted"}
    labels = {case: native_label(tmp_path / "out" / "labelsTr" / f"{case}.nii.gz") for case in ("P1", "P2")}
    assert {case: label.shape for case, label in labels.items()} == {"P1": (4, 5, 4), "P2": (4, 5, 4)}
    assert {case: np.unique(label).tolist() for case, label in labels.items()} == {"P1": [0, 2], "P2": [0, 1]}
    assert {case: int((label > 0).sum()) for case, label in labels.items()} == {"P1": 12, "P2": 8}


def test_one_patient_for_all_cases_is_said(tmp_path: Path, dicom_phantoms: ModuleType) -> None:
    source = tmp_path / "in"
    for number in (1, 2, 3):
        folder = source / str(number)
        dicom_phantoms.write_series(folder / "ct", uid=f"1.{number}", patient="ANON", SeriesNumber=number)
        regions = {"organ": [rectangle(0, 0, 2, 3)]}
        dicom_phantoms.write_rtstruct(folder / "rs.dcm", regions, series_uid=f"1.{number}", patient="ANON")
    out = tmp_path / "Dataset001_A"
    report = convert(source, out)
    assert "all 3 training cases are of one patient (ANON), so that no fold holds any back" in report.warnings[0]
    (found,) = [one for one in check(source, tmp_path / "check").findings if one.kind == Kind.ONE_PATIENT]
    assert found.severity == "warning"
    made = plan_dataset(out, tmp_path / "plans")
    assert made.splits.folds[0].validation == ()
    assert "no fold holds a case back for validation, as all cases that can be learnt from are one" in made.summary()


def test_regions_of_one_name_are_joined_if_asked_for(tmp_path: Path, dicom_phantoms: ModuleType) -> None:
    source = tmp_path / "in"
    dicom_phantoms.write_series(source / "ct", uid="1.1")
    regions = {"node": [rectangle(0, 0, 0, 0)], "node ": [rectangle(2, 2, 3, 3)], "organ": [rectangle(0, 0, 2, 3)]}
    dicom_phantoms.write_rtstruct(source / "rs.dcm", regions, series_uid="1.1")
    dicom_phantoms.write_rtstruct(source / "more.dcm", {"node": [rectangle(0, 0, 1, 0, z=14)]}, series_uid="1.1")
    with pytest.raises(
        DatasetError, match=r"node in several files for one series: more\.dcm, rs\.dcm, rs\.dcm.*--fix union"
    ):
        convert(source, tmp_path / "out")
    report = convert(source, tmp_path / "out", fixes=["union"])
    label = native_label(tmp_path / "out" / "labelsTr" / "P1.nii.gz")
    assert np.argwhere(label == 1).tolist() == [
        [0, 0, 0],
        [0, 0, 1],
        [1, 0, 1],
        [2, 2, 0],
        [2, 3, 0],
        [3, 2, 0],
        [3, 3, 0],
    ]
    assert "node: union of 3 structures of that name" in rows(report)["P1"][1]


def test_what_is_no_slice_is_passed_over_and_counted(tmp_path: Path, source: Path, dicom_phantoms: ModuleType) -> None:
    picture = {"SOPClassUID": dicom_phantoms.SECONDARY, "uid": "1.50", "start": 50}
    dicom_phantoms.write_series(source / "a" / "dose", [0], **picture)
    dicom_phantoms.write_series(source / "a" / "shot", [0], SamplesPerPixel=3, **picture)
    for path in (source / "a").glob("*/050.dcm"):
        dataset = pydicom.dcmread(path)
        del dataset.ImagePositionPatient, dataset.ImageOrientationPatient
        dataset.save_as(path)
    report = convert(source, tmp_path / "out")
    assert report.failed == ()
    assert report.notes == (
        "2 files that are no slices are passed over: 1 Secondary Capture Image, without a place in the patient, "
        "1 colour pictures",
    )
    cases, files = report.accounting
    assert (cases.found, cases.used) == (3, 3)
    assert files.found == files.used + 2


def broken(path: Path, **changes: Any) -> None:
    dataset = pydicom.dcmread(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for key, value in changes.items():
            setattr(dataset, key, value)
        dataset.save_as(path)


BROKEN: dict[str, tuple[dict[str, Any], str]] = {
    "short": ({"PixelData": b"\0" * 38}, "38 bytes of pixels, but 5 rows of 4 pixels need 40"),
    "slope": ({"RescaleSlope": "NaN"}, "RescaleSlope NaN and RescaleIntercept"),
    "zero": ({"RescaleSlope": "0"}, "RescaleSlope 0 and RescaleIntercept"),
    "intercept": ({"RescaleIntercept": "NaN"}, "RescaleIntercept NaN"),
    "position": ({"ImagePositionPatient": [0, "NaN", 0]}, r"its position is 0\.0, NaN, 0\.0, which places nothing"),
    "spacing": ({"PixelSpacing": [0, 1]}, r"its pixel spacing is 0\.0, 1\.0, which places nothing"),
    "bits": ({"BitsStored": 17}, "BitsStored is 17, but BitsAllocated 16"),
    "mosaic": ({"ImageType": ["ORIGINAL", "PRIMARY", "M", "MOSAIC"]}, "a Siemens mosaic: one picture of 4x5 pixels"),
}


@pytest.mark.filterwarnings("ignore:Invalid value for VR", "ignore:.*NaN")
@pytest.mark.parametrize("case", BROKEN)
def test_slices_that_cannot_be_are_refused_by_what_they_say(
    tmp_path: Path, dicom_phantoms: ModuleType, case: str
) -> None:
    changes, message = BROKEN[case]
    paths = dicom_phantoms.write_series(tmp_path / "in")
    broken(paths[1], **changes)
    with pytest.raises(PipelineError, match=message):
        convert(tmp_path / "in", tmp_path / "out")


def test_one_fault_of_many_files_is_told_once(
    tmp_path: Path, dicom_phantoms: ModuleType, capfd: pytest.CaptureFixture[str]
) -> None:
    dicom_phantoms.write_series(tmp_path / "in" / "good", uid="1.1")
    for path in dicom_phantoms.write_series(tmp_path / "in" / "bad", uid="1.2"):
        broken(path, RescaleSlope="0")
    (failed,) = convert(tmp_path / "in", tmp_path / "out").failed
    assert failed.case_id == "bad"
    assert "4 files, such as " in failed.message
    assert "RescaleSlope 0" in failed.message
    assert not capfd.readouterr().err


@pytest.mark.filterwarnings("ignore")  # pydicom has much to say
@pytest.mark.parametrize("seed", range(3))
def test_damaged_files_cost_their_cases_only(tmp_path: Path, source: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    for path in sorted((source / "a").rglob("*.dcm")):
        content = bytearray(path.read_bytes())
        for at in rng.integers(132, len(content), 6):
            content[at] = rng.integers(0, 256)
        path.write_bytes(bytes(content[: rng.integers(200, len(content))] if rng.random() < 0.2 else content))
    report = convert(source, tmp_path / "out")
    assert rows(report)["P2"][0] == "converted"
    assert rows(report)["P3"][0] == "converted"
    assert not (tmp_path / "out" / "crashes.log").exists()


def test_a_file_that_only_begins_like_dicom_is_passed_over(tmp_path: Path, dicom_phantoms: ModuleType) -> None:
    dicom_phantoms.write_series(tmp_path / "in")
    (tmp_path / "in" / "junk.dcm").write_bytes(b"\0" * 128 + b"DICM" + b"\1" * 40)
    report = convert(tmp_path / "in", tmp_path / "out")
    assert report.failed == ()
    assert (
        "1 files that are no slices are passed over: 1 files that begin like DICOM, but hold no image" in report.notes
    )


@pytest.mark.parametrize("name", ["左肺", "Höcker"])
def test_names_are_read_as_they_were_written_where_no_character_set_is_named(
    tmp_path: Path, dicom_phantoms: ModuleType, name: str
) -> None:
    source = tmp_path / "in"
    dicom_phantoms.write_series(source / "ct", uid="1.1")
    stand_in = "X" * len(name.encode())
    path = dicom_phantoms.write_rtstruct(source / "rs.dcm", {stand_in: [rectangle(0, 0, 2, 3)]}, series_uid="1.1")
    path.write_bytes(path.read_bytes().replace(stand_in.encode(), name.encode()))
    convert(source, tmp_path / "out")
    assert json.loads((tmp_path / "out" / "dataset.json").read_text())["labels"] == {"background": 0, name: 1}
