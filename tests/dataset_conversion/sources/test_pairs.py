import json
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
from moe_pipeline.datasets.dataset import RawDataset, open_dataset
from moe_pipeline.errors import DatasetError

Write = Callable[..., Any]


def converted(source: Path, **options: Any) -> tuple[RawDataset, dict[str, str]]:
    """The new dataset, and the message of each case that failed."""
    out = source.parent / "out"
    report = convert(source, out, options=Options(**options))
    assert report.source_format == "pairs"
    return open_dataset(out), {row.case_id: row.message for row in report.failed}


def labels_of(dataset: RawDataset, case_id: str) -> np.ndarray:
    return sitk.GetArrayFromImage(sitk.ReadImage(str(dataset.case(case_id).label))).transpose()


@pytest.mark.parametrize(
    ("image", "label"),
    [
        ("images/{}.nii.gz", "labels/{}.nii.gz"),
        ("imagesTr/{}.nrrd", "labelsTr/{}.nrrd"),
        ("img/img{}.mha", "mask/label{}.nii"),
        ("image/{}_img.nii", "segmentations/{}_seg.nii"),
        ("{}_image.nrrd", "{}_label.nrrd"),
        ("{}.nii.gz", "{}_seg.nii.gz"),
        ("{}.nii.gz", "{}-label.nii.gz"),
        ("head_img_{}.nii", "head_seg_{}.nii"),
        ("{}.mhd", "{}_gmseg-manual.mhd"),
        ("deep/{}/scan.nii.gz", "deep/{}/label.nii.gz"),
        ("deep/{}/t1.nii.gz", "deep/{}/t1_mask.nii.gz"),
        ("{}/ct.nii.gz", "{}/segmentation.nii.gz"),
    ],
)
def test_names_say_what_belongs_together(tmp_path: Path, write_volume: Write, image: str, label: str) -> None:
    source = tmp_path / "in"
    labels = {}
    for number in (1, 2):
        write_volume(source / image.format(f"0{number}"))
        labels[number] = write_volume(source / label.format(f"0{number}"), number)
    assert choose_source(source) == "pairs"
    dataset, failed = converted(source)
    assert not failed
    assert dataset.classes == {1: "class_1", 2: "class_2"}
    assert dataset.json.channel_names == {"0": "image"}
    assert len(dataset.cases) == 2
    for number, case in enumerate(dataset.cases, start=1):
        assert f"0{number}" in case.case_id
        np.testing.assert_array_equal(labels_of(dataset, case.case_id), labels[number])


def test_channels_by_number_and_test_images(tmp_path: Path, write_volume: Write) -> None:
    source = tmp_path / "in"
    for case, folder in (("a", "imagesTr"), ("b", "imagesTr"), ("t", "imagesTs")):
        for channel in (0, 1):
            write_volume(source / folder / f"{case}_000{channel}.nii.gz")
        if folder == "imagesTr":
            write_volume(source / "labelsTr" / f"{case}.nii.gz", 1)
    dataset, failed = converted(source, channels=("FLAIR", "T1"))
    assert not failed
    assert dataset.json.channel_names == {"0": "FLAIR", "1": "T1"}
    assert [case.case_id for case in dataset.cases] == ["a", "b"]
    assert [case.case_id for case in dataset.test_cases] == ["t"]


def test_orphans_and_duplicates_are_rows(tmp_path: Path, write_volume: Write) -> None:
    source = tmp_path / "in"
    for name in ("a", "b", "c"):
        write_volume(source / f"{name}.nii.gz")
    for name in ("a_seg", "c_seg", "c_label", "d_seg"):
        write_volume(source / f"{name}.nii.gz", 1)
    dataset, failed = converted(source)
    assert [case.case_id for case in dataset.cases] == ["a"]
    assert failed == {
        "b": "b.nii.gz: an image without label",
        "c": "2 label files, expected one: c_label.nii.gz, c_seg.nii.gz. Keep one, or choose with --masks",
        "d": "d_seg.nii.gz: a label without image",
    }


def test_templates_with_patients_channels_and_classes(tmp_path: Path, write_volume: Write) -> None:
    source = tmp_path / "in"
    for patient, scan in (("p1", "a"), ("p1", "b"), ("p2", "a")):
        for name in ("T1", "T2"):
            write_volume(source / patient / scan / f"{name}.nii.gz")
        big, small = (np.zeros((9, 8, 6), np.uint8) for _ in range(2))
        big[1:6, 1:6, 1:5], small[5:8, 2:5, 2] = 1, 255
        write_volume(source / patient / scan / "roi-liver.nrrd", big)
        if scan == "a":
            write_volume(source / patient / scan / "roi-cyst.nrrd", small)
    dataset, failed = converted(
        source,
        images="{patient}/{scan}/{channel}.nii.gz",
        masks="{patient}/{scan}/roi-{class}.nrrd",
        channels=("T2", "T1"),
    )
    assert not failed
    assert dataset.classes == {1: "cyst", 2: "liver"}
    assert dataset.json.channel_names == {"0": "T2", "1": "T1"}
    assert dataset.json.patients == {"p1_a": "p1", "p1_b": "p1", "p2_a": "p2"}
    np.testing.assert_array_equal(labels_of(dataset, "p1_a"), np.where(small > 0, 1, 2 * big))
    report = json.loads((dataset.folder / "conversion.json").read_text())
    notes = {row["case_id"]: row["message"] for row in report["rows"]}
    assert "3 voxels are in several masks (cyst/liver)" in notes["p1_a"]
    assert "no file of cyst: taken as not there" in notes["p1_b"]
    assert report["options"]["channels"] == ["T2", "T1"]


def test_masks_must_be_masks_on_the_grid_of_the_image(tmp_path: Path, write_volume: Write) -> None:
    source = tmp_path / "in"
    for case in ("a", "b", "c"):
        write_volume(source / case / "ct.nii.gz")
        write_volume(source / case / "m_x.nii.gz", 1)
    write_volume(source / "b" / "m_y.nii.gz", 1, origin=(5.0, 0.0, 0.0))
    label_map = write_volume(source / "c" / "m_y.nii.gz", 1)
    label_map[0, 0, 0] = 2
    write_volume(source / "c" / "m_y.nii.gz", label_map)
    _, failed = converted(source, images="{case}/ct.nii.gz", masks="{case}/m_{class}.nii.gz")
    assert failed["b"].startswith("m_y.nii.gz: image and mask lie on different grids: origin")
    several = "found values 1, 2. If it is a label map of several, take it out of the folder of masks."
    assert failed["c"] == f"m_y.nii.gz: expected the mask of one structure, {several}"


def test_templates_that_do_not_fit_are_explained(tmp_path: Path, write_volume: Write) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    write_volume(source / "a.nii.gz")
    cases: tuple[tuple[dict[str, Any], str], ...] = (
        ({"images": "{case}.nii.gz"}, "--images and --masks need each other"),
        (
            {"images": "{case}.mha", "masks": "{case}_x.mha"},
            r"no image fits '\{case\}.mha'. Files are such as: a.nii.gz",
        ),
        ({"images": "{case}.nii.gz", "masks": "{case}_x.mha"}, "no label file fits"),
        ({"images": "{case}.nii.gz", "masks": "{scan}.mha"}, r"\{scan\} does not come in the template of the images"),
        ({}, "1 images and 0 labels, judged by their names"),
    )
    for options, fault in cases:
        with pytest.raises(DatasetError, match=fault):
            convert(source, out, "pairs", options=Options(**options))
    assert not out.exists()
    with pytest.raises(DatasetError, match="In any other, name the pairs"):
        choose_source(source)


def test_classes_without_names_are_mapped_by_value(tmp_path: Path, write_volume: Write) -> None:
    source = tmp_path / "in"
    for case, value in (("a", 3), ("b", 7), ("c", 9)):
        write_volume(source / f"{case}.nii.gz")
        write_volume(source / f"{case}_seg.nii.gz", value)
    report = convert(source, tmp_path / "out", label_map=LabelMap.model_validate({"organ": [3, 7]}))
    assert [row.case_id for row in report.failed] == ["c"]
    assert "label values 9 are not in --labels (0, 3, 7)" in report.failed[0].message
    assert open_dataset(tmp_path / "out").classes == {1: "organ"}


def test_real_pairs_of_nrrd_files(tmp_path: Path, real_data: Path) -> None:
    report = convert(real_data / "pyradiomics", tmp_path / "out")
    assert [row.case_id for row in report.rows] == ["brain1", "breast1", "prostate_phantom_subvolume"]
    assert not report.failed
    dataset = open_dataset(tmp_path / "out")
    assert sorted(dataset.classes) == [1, 7, 8, 9]
    for case, name in (("brain1", "brain1_label"), ("prostate_phantom_subvolume", "prostate_phantom_subvolume-label")):
        there = sitk.ReadImage(str(real_data / "pyradiomics" / f"{name}.nrrd"))
        here = sitk.ReadImage(str(dataset.case(case).label))
        np.testing.assert_array_equal(sitk.GetArrayFromImage(here), sitk.GetArrayFromImage(there))
        np.testing.assert_allclose(here.GetOrigin(), there.GetOrigin(), atol=1e-4)
        np.testing.assert_allclose(here.GetDirection(), there.GetDirection(), atol=1e-6)


def test_label_maps_without_images_are_refused(tmp_path: Path, real_data: Path) -> None:
    with pytest.raises(DatasetError, match="0 images and 2 labels, judged by their names"):
        convert(real_data / "SynthSeg_labelmaps", tmp_path / "out")


def add_segments(path: Path, segments: dict[str, int], layer: int = 0) -> None:
    """Name the segments in the header of a .nrrd file, as 3D Slicer does."""
    head, _, voxels = path.read_bytes().partition(b"\n\n")
    for number, (name, value) in enumerate(segments.items()):
        head += f"\nSegment{number}_Name:={name}\nSegment{number}_LabelValue:={value}\n".encode()
        head += f"Segment{number}_Layer:={layer * number}".encode()
    path.write_bytes(head + b"\n\n" + voxels)


@pytest.mark.parametrize("swapped", [False, True])
def test_segments_of_slicer_go_by_their_names(tmp_path: Path, write_volume: Write, swapped: bool) -> None:
    source = tmp_path / "in"
    organs = {"liver": 2, "tumour": 1}
    for case in ("a", "b"):
        values = {name: 3 - value for name, value in organs.items()} if swapped and case == "b" else organs
        labels = np.zeros((9, 8, 6), np.uint8)
        labels[1:6, 1:5, 1:4], labels[2, 2, 2] = values["liver"], values["tumour"]
        write_volume(source / f"{case}.nrrd")
        write_volume(source / f"{case}.seg.nrrd", labels)
        add_segments(source / f"{case}.seg.nrrd", values)
    dataset, failed = converted(source)
    assert failed == {}
    values = {name: value for value, name in dataset.classes.items()}
    assert values == ({"liver": 1, "tumour": 2} if swapped else organs)
    for case in ("a", "b"):
        counts = {name: int((labels_of(dataset, case) == value).sum()) for name, value in values.items()}
        assert counts == {"liver": 59, "tumour": 1}


def test_segments_that_no_label_map_can_hold_are_named(tmp_path: Path, write_volume: Write) -> None:
    source = tmp_path / "in"
    for case in ("good", "layers", "unnamed", "other"):
        write_volume(source / f"{case}.nrrd")
        write_volume(source / f"{case}.seg.nrrd", 1)
    add_segments(source / "good.seg.nrrd", {"liver": 1})
    add_segments(source / "layers.seg.nrrd", {"liver": 1, "tumour": 2}, layer=1)
    add_segments(source / "other.seg.nrrd", {"liver": 2})
    dataset, failed = converted(source)
    assert dataset.classes == {1: "liver"}
    assert "segments overlap (liver, tumour lie in several layers)" in failed["layers"]
    assert "names no segments in its header, as others do" in failed["unnamed"]
    assert "no segment has the values 1 of its voxels" in failed["other"]
