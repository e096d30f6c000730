"""Published layouts, made of small volumes: each is recognised and converted, and its oddities are dealt with."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk

from dataset_conversion.convert import convert
from dataset_conversion.label_map import LabelMap
from dataset_conversion.layout import Options
from dataset_conversion.registry import choose_source
from dataset_conversion.sources import totalsegmentator
from moe_pipeline.datasets.dataset import RawDataset, open_dataset
from moe_pipeline.errors import DatasetError
from moe_pipeline.planning.splits import make_splits
from moe_pipeline.records.dataset import ConversionReport

Write = Callable[..., Any]


def converted(source: Path, expected: str, **options: Any) -> tuple[RawDataset, ConversionReport]:
    assert choose_source(source) == expected
    report = convert(source, source.parent / "out", options=Options(**options))
    return open_dataset(source.parent / "out"), report


def messages(report: ConversionReport) -> dict[str, str]:
    return {row.case_id: row.message for row in report.rows}


def failures(report: ConversionReport) -> dict[str, str]:
    return {row.case_id: row.message for row in report.failed}


def voxels(path: Path | None) -> np.ndarray:
    return sitk.GetArrayFromImage(sitk.ReadImage(str(path))).transpose()


def case_ids(dataset: RawDataset) -> tuple[list[str], list[str]]:
    return [case.case_id for case in dataset.cases], [case.case_id for case in dataset.test_cases]


@pytest.mark.parametrize(("scan", "channel"), [("ct", "CT"), ("mri", "MRI")])
def test_totalsegmentator(tmp_path: Path, write_volume: Write, scan: str, channel: str) -> None:
    source = tmp_path / "in"
    for case in ("s0001", "s0002"):
        write_volume(source / case / f"{scan}.nii.gz")
        liver = write_volume(source / case / "segmentations" / "liver.nii.gz", 1)
        aorta = np.zeros_like(liver)
        aorta[3, :, 2] = 1
        write_volume(source / case / "segmentations" / "aorta.nii.gz", aorta)
        write_volume(source / case / "segmentations" / "skull.nii.gz", np.zeros_like(liver))
    (source / "meta.csv").write_text("image_id;age\n")
    dataset, report = converted(source, "totalsegmentator")
    assert not report.failed
    assert dataset.json.channel_names == {"0": channel}
    assert dataset.classes == {1: "aorta", 2: "liver", 3: "skull"}
    np.testing.assert_array_equal(voxels(dataset.cases[0].label), np.where(aorta, 1, 2 * liver))
    assert "5 voxels are in several masks (aorta/liver), the smallest structure keeps them" in messages(report)["s0001"]


def test_totalsegmentator_holds_its_test_cases_back_and_takes_some_organs(tmp_path: Path, write_volume: Write) -> None:
    source = tmp_path / "in"
    for case in ("s0001", "s0002", "s0003"):
        write_volume(source / case / "ct.nii.gz")
        write_volume(source / case / "segmentations" / "liver.nii.gz", 1)
        (source / case / "segmentations" / "spleen.nii.gz").write_text("is not read")
    rows = ["image_id;age;split", "s0001;50;train", "s0002;51;val", "s0003;;test"]
    (source / "meta.csv").write_text("\n".join(rows), encoding="utf-8-sig")
    dataset, report = converted(source, "totalsegmentator", masks="{case}/segmentations/{class:liver|aorta}.nii.gz")
    assert not report.failed
    assert case_ids(dataset) == (["s0001", "s0002"], ["s0003"])
    assert dataset.classes == {1: "liver"}
    assert (dataset.folder / "labelsTs" / "s0003.nii.gz").is_file()
    assert totalsegmentator.splits(source) == {"s0001": "train", "s0002": "val", "s0003": "test"}


def test_totalsegmentator_with_both_kinds_of_scan_and_a_single_case(tmp_path: Path, write_volume: Write) -> None:
    source = tmp_path / "in"
    for case, scan in (("s1", "ct"), ("s2", "mri")):
        write_volume(source / case / f"{scan}.nii.gz")
        write_volume(source / case / "segmentations" / "liver.nii.gz", 1)
    with pytest.raises(DatasetError, match="needs one kind of scan, found CT, MRI; --channels CT or"):
        convert(source, tmp_path / "out")
    dataset, report = converted(source, "totalsegmentator", channels=("MRI",))
    assert case_ids(dataset) == (["s2"], [])
    assert failures(report) == {"s1": "s1/segmentations/liver.nii.gz: a label without image"}
    convert(source / "s1", tmp_path / "one")
    assert case_ids(open_dataset(tmp_path / "one")) == (["ct"], [])


def test_classes_of_organ_files_are_merged_by_name(tmp_path: Path, write_volume: Write) -> None:
    source = tmp_path / "in"
    write_volume(source / "s1" / "ct.nii.gz")
    for number, organ in enumerate(("kidney_left", "kidney_right", "liver")):
        mask = np.zeros((9, 8, 6), np.uint8)
        mask[3 * number : 3 * number + 2] = 1
        write_volume(source / "s1" / "segmentations" / f"{organ}.nii.gz", mask)
    classes = LabelMap.model_validate({"kidneys": ["kidney_left", "kidney_right"], "background": "*"})
    convert(source, tmp_path / "out", label_map=classes)
    dataset = open_dataset(tmp_path / "out")
    assert dataset.classes == {1: "kidneys"}
    assert voxels(dataset.cases[0].label)[:, 0, 0].tolist() == [1, 1, 0, 1, 1, 0, 0, 0, 0]


def test_kits_with_cysts_and_test_cases(tmp_path: Path, write_volume: Write) -> None:
    source = tmp_path / "in"
    for case, value in (("case_00000", 2), ("case_00001", 3), ("case_00002", 0)):
        write_volume(source / case / "imaging.nii.gz")
        if value:
            write_volume(source / case / "segmentation.nii.gz", value)
    dataset, report = converted(source, "kits")
    assert not report.failed
    assert case_ids(dataset) == (["case_00000", "case_00001"], ["case_00002"])
    assert dataset.classes == {1: "kidney", 2: "tumor", 3: "cyst"}
    assert dataset.json.channel_names == {"0": "CT"}


def test_kits_without_cysts_and_with_aggregated_labels(tmp_path: Path, write_volume: Write) -> None:
    source = tmp_path / "in"
    write_volume(source / "case_00000" / "imaging.nii.gz")
    write_volume(source / "case_00000" / "aggregated_MAJ_seg.nii.gz", 1)
    write_volume(source / "case_00000" / "aggregated_OR_seg.nii.gz", 2)
    dataset, _ = converted(source, "kits")
    assert dataset.classes == {1: "kidney", 2: "tumor"}
    assert voxels(dataset.cases[0].label).max() == 1
    dataset, _ = converted(source, "kits", masks="{case}/aggregated_OR_seg.nii.gz")
    assert voxels(dataset.cases[0].label).max() == 2


def test_kits_without_images_is_refused(real_data: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"20 label files and no image \(case_\*/imaging.nii.gz\). KiTS publishes"):
        convert(real_data / "KiTS19_labels", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("folder", ["", "RawData/Training/"])
def test_btcv(tmp_path: Path, write_volume: Write, folder: str) -> None:
    source = tmp_path / "in"
    for number in ("0001", "0002"):
        write_volume(source / f"{folder}img/img{number}.nii.gz")
        write_volume(source / f"{folder}label/label{number}.nii.gz", 13)
    write_volume(source / "RawData/Testing/img/img0061.nii.gz")
    dataset, report = converted(source, "btcv")
    assert not report.failed
    assert case_ids(dataset) == (["btcv_0001", "btcv_0002"], ["btcv_0061"])
    assert len(dataset.classes) == 13
    assert dataset.classes[13] == "left adrenal gland"


def test_amos_keeps_what_is_held_out(tmp_path: Path, write_volume: Write) -> None:
    source = tmp_path / "in"
    for case, part in (("0001", "Tr"), ("0507", "Tr"), ("0002", "Va"), ("0003", "Ts")):
        write_volume(source / f"images{part}" / f"amos_{case}.nii.gz")
        if part != "Ts":
            write_volume(source / f"labels{part}" / f"amos_{case}.nii.gz", 15)
    (source / "dataset.json").write_text('{"modality": {"0": "CT"}, "labels": {"0": "background"}, "training": []}')
    dataset, report = converted(source, "amos", channels=("CT",))
    assert not report.failed
    assert case_ids(dataset) == (["amos_0001"], ["amos_0002", "amos_0003"])
    assert (dataset.folder / "labelsTs" / "amos_0002.nii.gz").is_file()
    assert dataset.classes[15] == "prostate or uterus"
    dataset, _ = converted(source, "amos")
    assert case_ids(dataset)[0] == ["amos_0001", "amos_0507"]
    assert dataset.json.channel_names == {"0": "CT or MRI"}
    with pytest.raises(DatasetError, match="--channels takes CT or MRI, found PET"):
        convert(source, tmp_path / "new", options=Options(channels=("PET",)))


def test_amos_labels_alone_are_refused(tmp_path: Path, real_data: Path) -> None:
    source = real_data / "SAM-Med3D_samples" / "kidney_right" / "AMOS"
    with pytest.raises(DatasetError, match=r"1 labels and no image amos_\*\.nii\.gz"):
        convert(source, tmp_path / "out")


@pytest.mark.parametrize(
    ("pattern", "names", "values", "patient"),
    [
        ("BraTS2021_0000{n}/BraTS2021_0000{n}_{c}", "flair t1 t1ce t2", {1: 4}, None),
        ("HGG/Brats18_{n}/Brats18_{n}_{c}", "flair t1 t1ce t2", {1: 4}, None),
        ("BraTS-GLI-00000-00{n}/BraTS-GLI-00000-00{n}-{c}", "t2f t1n t1c t2w", {1: 3}, "BraTS-GLI-00000"),
    ],
)
def test_brats(
    tmp_path: Path, write_volume: Write, pattern: str, names: str, values: dict[int, int], patient: str | None
) -> None:
    source = tmp_path / "in"
    for number in (1, 2):
        for name in names.split():
            write_volume(source / (pattern.format(n=number, c=name) + ".nii.gz"))
        write_volume(source / (pattern.format(n=number, c="seg") + ".nii.gz"), values[1])
    dataset, report = converted(source, "brats")
    assert not report.failed
    assert list(dataset.json.channel_names.values()) == ["FLAIR", "T1", "T1ce", "T2"]
    assert dataset.classes == {1: "necrosis", 2: "oedema", values[1]: "enhancing tumour"}
    assert report.notes[0].startswith("label values are taken to mean what they do in BraTS: 1 necrosis, 2 oedema")
    extra = dataset.json.model_extra or {}
    assert extra["evaluation_regions"] == {
        "whole tumour": [1, 2, values[1]],
        "tumour core": [1, values[1]],
        "enhancing tumour": [values[1]],
    }
    assert set((dataset.json.patients or {}).values()) == ({patient} if patient else set())


def test_brats_cases_that_lack_a_contrast_are_rows(tmp_path: Path, write_volume: Write) -> None:
    source = tmp_path / "in"
    for case, names in (("a", ("flair", "t1ce", "seg")), ("b", ("flair", "seg"))):
        for name in names:
            write_volume(source / case / f"{case}_{name}.nii.gz", 1 if name == "seg" else None)
    _, report = converted(source, "brats")
    assert failures(report) == {"b": "no image of channel T1ce, only FLAIR; --channels says which to take"}
    dataset, report = converted(source, "brats", channels=("FLAIR",))
    assert case_ids(dataset) == (["a", "b"], [])
    with pytest.raises(DatasetError, match="no T2; there is FLAIR, T1ce"):
        convert(source, tmp_path / "out", options=Options(channels=("T2",)))


@pytest.mark.parametrize("names", ["flair t1 seg", "flair t1ce flair_seg"])
def test_other_brains_are_not_taken_for_brats(tmp_path: Path, write_volume: Write, names: str) -> None:
    for name in names.split():
        write_volume(tmp_path / "p1" / f"{name}.nii.gz", 1)
    assert choose_source(tmp_path) == "pairs"


def test_real_brats_of_deepmedic(tmp_path: Path, real_data: Path) -> None:
    source = tmp_path / "in"
    case = "brats_2013_pat0003_1"
    source.mkdir()
    (source / case).symlink_to(real_data / "BraTS2013_DeepMedic" / case)
    dataset, report = converted(source, "brats")
    assert not report.failed
    assert dataset.json.channel_names == {"0": "FLAIR", "1": "T1ce"}
    assert dataset.json.patients == {case: "brats_2013_pat0003"}
    assert dataset.classes == {1: "necrosis", 2: "oedema", 3: "non-enhancing tumour", 4: "enhancing tumour"}
    there = voxels(source / case / "OTMultiClass.nii.gz")
    np.testing.assert_array_equal(voxels(dataset.cases[0].label), there)
    np.testing.assert_array_equal(
        voxels(dataset.cases[0].images[1]), voxels(source / case / "T1c_subtrMeanDivStd.nii.gz")
    )


def sppin(folder: Path, write: Write) -> Path:
    """Two visits of one patient and one of another; the T2 is coarser and shifted, the diffusion covers half."""
    for patient, visit in (("001", "a"), ("001", "b"), ("002", "a")):
        place = folder / f"patient_{patient}" / f"scan_{visit}"
        x, y, z = np.indices((9, 8, 6), np.float32)
        write(place / "T1.nii.gz", x + 10 * y + 100 * z, (1.0, 1.0, 1.0))
        x, y, z = np.indices((6, 6, 4), np.float32)  # the same field x + 10y + 100z, sampled every 2 mm
        write(
            place / "T2.nii.gz", 2 * x - 1 + 10 * (2 * y - 1) + 100 * (2 * z - 1), (2.0, 2.0, 2.0), (-1.0, -1.0, -1.0)
        )
        write(place / "DWI_b100.nii.gz", np.full((9, 8, 3), 7, np.float32), (1.0, 1.0, 1.0))
        write(place / "label.nii.gz", 1, (1.0, 1.0, 1.0))
    return folder


def test_sppin_resamples_to_the_t1_and_keeps_patients_together(tmp_path: Path, write_volume: Write) -> None:
    source = sppin(tmp_path / "SPPIN2023", write_volume)
    dataset, report = converted(source, "sppin")
    assert not report.failed
    assert dataset.json.channel_names == {"0": "T1", "1": "T2", "2": "b100"}
    assert dataset.classes == {1: "neuroblastoma"}
    case = dataset.case("patient_001_scan_a")
    t1, t2, diffusion = (voxels(path) for path in case.images)
    np.testing.assert_allclose(t2, t1, atol=1e-3)
    assert diffusion[:, :, :3].min() == 7
    assert diffusion[:, :, 3:].max() == 0
    np.testing.assert_array_equal(voxels(case.label), voxels(source / "patient_001" / "scan_a" / "label.nii.gz"))
    note = messages(report)["patient_001_scan_a"]
    assert "channel 1 (T2.nii.gz, 6x6x4 at 2x2x2 mm) resampled onto the grid of channel 0" in note
    assert "channel 2 (DWI_b100.nii.gz, 9x8x3 at 1x1x1 mm)" in note
    assert "of which 50.0% lies outside and is 0" in note
    splits = make_splits("x", [case.case_id for case in dataset.cases], 0, patients=dataset.json.patients)
    for fold in splits.folds:
        assert {"patient_001_scan_a", "patient_001_scan_b"} <= set(fold.train) or {
            "patient_001_scan_a",
            "patient_001_scan_b",
        } <= set(fold.validation)


def test_sppin_names_can_be_anything(tmp_path: Path, write_volume: Write) -> None:
    source = tmp_path / "in"
    for visit in ("d1", "d2"):
        write_volume(source / f"P7_{visit}_t1gd.mha")
        write_volume(source / f"P7_{visit}_dwi.mha", origin=(500.0, 0.0, 0.0) if visit == "d2" else (1.0, 0.0, 0.0))
        write_volume(source / f"P7_{visit}_roi.mha", 1)
    options = Options("{patient}_{visit}_{channel:t1gd|dwi}.mha", "{patient}_{visit}_roi.mha", channels=("t1gd", "dwi"))
    report = convert(source, tmp_path / "out", "sppin", options=options)
    assert failures(report) == {
        "P7_d2": "P7_d2_dwi.mha: shows no part of what channel 0 shows; its position may be wrong"
    }
    dataset = open_dataset(tmp_path / "out")
    assert dataset.json.patients == {"P7_d1": "P7"}
    with pytest.raises(DatasetError, match=r"--images needs \{channel\} and \{patient\}"):
        convert(source, tmp_path / "new", "sppin", options=Options(images="{case}.mha"))


def test_a_label_off_the_t1_is_a_row(tmp_path: Path, write_volume: Write) -> None:
    source = sppin(tmp_path / "SPPIN2023", write_volume)
    write_volume(source / "patient_002" / "scan_a" / "label.nii.gz", 1, (2.0, 2.0, 2.0))
    _, report = converted(source, "sppin")
    assert failures(report)["patient_002_scan_a"].startswith("label.nii.gz: image and label lie on different grids")


def test_a_run_on_other_sequences_makes_cases_anew(tmp_path: Path, write_volume: Write) -> None:
    source = sppin(tmp_path / "SPPIN2023", write_volume)
    converted(source, "sppin")
    _, report = converted(source, "sppin")
    assert {row.status for row in report.rows} == {"present"}
    dataset, report = converted(source, "sppin", channels=("T1",))
    assert {row.status for row in report.rows} == {"converted"}
    assert sorted(path.name for path in (dataset.folder / "imagesTr").iterdir()) == [
        f"patient_{name}_0000.nii.gz" for name in ("001_scan_a", "001_scan_b", "002_scan_a")
    ]


def test_real_organ_files_become_the_label_map(tmp_path: Path, real_data: Path) -> None:
    """Of the fast model there are organ files, of the full model the label map: near, in the same classes."""
    source = real_data / "TotalSegmentator_ref"
    options = Options("example_ct_sm.nii.gz", "example_seg_fast/{class}.nii.gz", channels=("CT",))
    report = convert(source, tmp_path / "out", options=options)
    assert not report.failed
    dataset = open_dataset(tmp_path / "out")
    labels = voxels(dataset.cases[0].label)
    organs = {path.name.removesuffix(".nii.gz"): voxels(path) for path in (source / "example_seg_fast").iterdir()}
    assert set(dataset.classes.values()) == set(organs)
    for value, name in dataset.classes.items():
        np.testing.assert_array_equal(labels == value, organs[name] > 0)
    full = voxels(source / "example_seg.nii.gz")
    of_full = {"spleen": 1, "kidney_right": 2, "kidney_left": 3, "liver": 5, "stomach": 6, "pancreas": 7, "colon": 20}
    for name, value in of_full.items():
        mine = labels == next(number for number, organ in dataset.classes.items() if organ == name)
        dice = 2 * np.count_nonzero(mine & (full == value)) / (mine.sum() + np.count_nonzero(full == value))
        assert dice > 0.8


@pytest.mark.parametrize("label", ["example_seg.nii.gz", "example_seg_mr.nii.gz"])
def test_real_label_maps_taken_apart_come_back(tmp_path: Path, real_data: Path, label: str) -> None:
    source = tmp_path / "in"
    reference = sitk.ReadImage(str(real_data / "TotalSegmentator_ref" / label))
    scan, name = ("mri", "example_mr_sm") if label.endswith("mr.nii.gz") else ("ct", "example_ct_sm")
    (source / "s1" / "segmentations").mkdir(parents=True)
    (source / "s1" / f"{scan}.nii.gz").symlink_to(real_data / "TotalSegmentator_ref" / f"{name}.nii.gz")
    values = np.unique(sitk.GetArrayFromImage(reference))[1:]
    for value in values:
        sitk.WriteImage(reference == int(value), str(source / "s1" / "segmentations" / f"organ_{value:03d}.nii.gz"))
    dataset, report = converted(source, "totalsegmentator")
    assert not report.failed
    old = np.array([0, *(int(name.removeprefix("organ_")) for name in dataset.classes.values())])
    np.testing.assert_array_equal(old[voxels(dataset.cases[0].label)], sitk.GetArrayFromImage(reference).transpose())
