import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from moe_pipeline.errors import GeometryError, ImageError, PipelineError
from moe_pipeline.imaging import dicom
from moe_pipeline.imaging.dicom.labels import open_label_file, read_structures
from moe_pipeline.imaging.dicom.library import read_dataset
from moe_pipeline.imaging.dicom.writing import write_dicom_seg
from moe_pipeline.imaging.geometry import Geometry
from moe_pipeline.imaging.volume import Volume, to_canonical

NAMES = {1: "liver", 7: "left kidney", 300: "absent"}


def made_labels(folder: Path, *, seed: int = 0) -> Volume:
    """Random labels 0, 1 and 7 on the canonical grid of a series."""
    grid = dicom.read_series_geometry(folder).canonical()
    return Volume(np.random.default_rng(seed).choice(np.array([0, 1, 7], np.uint16), grid.shape), grid)


def read_back(path: Path, native: Geometry, names: dict[int, str] = NAMES) -> np.ndarray:
    """Canonical label map of a SEG by the names of its segments."""
    values = {name: value for value, name in names.items()}
    labels = np.zeros(native.shape, np.uint16)
    for structure in read_structures(path, native):
        labels[structure.mask] = values[structure.name]
    return to_canonical(Volume(labels, native)).array


def check_round_trip(folder: Path, path: Path) -> None:
    labels = made_labels(folder)
    write_dicom_seg(labels, NAMES, folder, path)
    np.testing.assert_array_equal(read_back(path, dicom.read_series_geometry(folder)), labels.array)
    assert open_label_file(path).names == tuple(NAMES.values())


@pytest.mark.parametrize("orientation", ["UPRIGHT", "OBLIQUE", "SAGITTAL"])
@pytest.mark.parametrize("heights_mm", [(10, 14, 18, 22), (22, 10, 18, 14)])
def test_a_segmentation_read_back_is_the_label_map(
    tmp_path: Path, dicom_phantoms: ModuleType, orientation: str, heights_mm: tuple[float, ...]
) -> None:
    axes = getattr(dicom_phantoms, orientation, (0, 1, 0, 0, 0, -1))
    dicom_phantoms.write_series(tmp_path / "in", heights_mm, orientation=axes)
    check_round_trip(tmp_path / "in", tmp_path / "out" / "case.dcm")


def test_it_refers_to_the_series_and_every_slice(tmp_path: Path, dicom_phantoms: ModuleType) -> None:
    paths = dicom_phantoms.write_series(tmp_path / "in")
    write_dicom_seg(made_labels(tmp_path / "in"), NAMES, tmp_path / "in", tmp_path / "case.dcm")
    dataset = read_dataset(tmp_path / "case.dcm")
    (series,) = dataset.ReferencedSeriesSequence
    slices = {str(item.ReferencedSOPInstanceUID) for item in series.ReferencedInstanceSequence}
    assert slices == {str(read_dataset(path).SOPInstanceUID) for path in paths}
    assert dataset.PatientID == "P1"
    assert dataset.FrameOfReferenceUID == "1.9"
    kinds = [item.SegmentedPropertyTypeCodeSequence[0] for item in dataset.SegmentSequence]
    assert [(kind.CodeValue, kind.CodeMeaning) for kind in kinds] == [(str(key), name) for key, name in NAMES.items()]


def test_frames_of_one_file_are_matched_in_their_order(tmp_path: Path, dicom_phantoms: ModuleType) -> None:
    pixels = np.zeros((3, 5, 4), np.uint16)
    dicom_phantoms.write_frames(tmp_path / "in" / "e.dcm", pixels, [(7, 8, 14), (7, 8, 10), (7, 8, 18)])
    check_round_trip(tmp_path / "in", tmp_path / "case.dcm")


def test_an_empty_label_map_can_be_written(tmp_path: Path, dicom_phantoms: ModuleType) -> None:
    dicom_phantoms.write_series(tmp_path / "in")
    grid = dicom.read_series_geometry(tmp_path / "in")
    empty = Volume(np.zeros(grid.canonical().shape, np.uint8), grid.canonical())
    write_dicom_seg(empty, NAMES, tmp_path / "in", tmp_path / "case.dcm")
    assert not read_back(tmp_path / "case.dcm", grid).any()


def test_the_same_labels_have_the_same_uids(tmp_path: Path, dicom_phantoms: ModuleType) -> None:
    dicom_phantoms.write_series(tmp_path / "in")
    uids = []
    for seed in (0, 0, 1):
        write_dicom_seg(made_labels(tmp_path / "in", seed=seed), NAMES, tmp_path / "in", tmp_path / "case.dcm")
        uids.append(read_dataset(tmp_path / "case.dcm").SOPInstanceUID)
    assert uids[0] == uids[1] != uids[2]


def test_values_without_name_and_names_alike_are_refused(tmp_path: Path, dicom_phantoms: ModuleType) -> None:
    dicom_phantoms.write_series(tmp_path / "in")
    labels = made_labels(tmp_path / "in")
    for names, message in (
        ({1: "liver"}, "label values 7 have no name"),
        ({1: "liver", 7: "liver "}, r"different names .* got 1: 'liver', 7: 'liver'"),
    ):
        with pytest.raises(ImageError, match=message):
            write_dicom_seg(labels, names, tmp_path / "in", tmp_path / "case.dcm")
    assert not (tmp_path / "case.dcm").exists()


def test_labels_on_another_grid_are_refused(tmp_path: Path, dicom_phantoms: ModuleType) -> None:
    dicom_phantoms.write_series(tmp_path / "in")
    dicom_phantoms.write_series(tmp_path / "other", [0, 3, 6, 9])
    with pytest.raises(GeometryError, match="does not lie on the grid"):
        write_dicom_seg(made_labels(tmp_path / "other"), NAMES, tmp_path / "in", tmp_path / "case.dcm")


def test_a_series_that_cannot_be_referred_to_is_named(tmp_path: Path, dicom_phantoms: ModuleType) -> None:
    extra = [{"StudyInstanceUID": f"1.2.{number}"} for number in range(4)]
    dicom_phantoms.write_series(tmp_path / "in", extra=extra)
    with pytest.raises(ImageError, match=r"no SEG can be made for this series: .*Write the label map as \.nii\.gz"):
        write_dicom_seg(made_labels(tmp_path / "in"), NAMES, tmp_path / "in", tmp_path / "case.dcm")


def test_without_highdicom_the_error_says_what_to_install(
    tmp_path: Path, dicom_phantoms: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    dicom_phantoms.write_series(tmp_path / "in")
    labels = made_labels(tmp_path / "in")
    monkeypatch.setitem(sys.modules, "highdicom", None)
    with pytest.raises(PipelineError, match=r"DICOM needs highdicom.*pip install 'moe-pipeline\[dicom\]'"):
        write_dicom_seg(labels, NAMES, tmp_path / "in", tmp_path / "case.dcm")


@pytest.mark.parametrize(
    "name",
    [
        "ProstateX/ProstateX-0000/07-07-2011/7.000000-ep2ddifftraDYNDISTADC-48780",
        "dcmqi_segmentations/24x38x3/multiframe",
        "sts_images/STS_001/CT/dicom/image",
        "torchio_ct",
    ],
)
def test_real_series_come_back_labelled(tmp_path: Path, real_data: Path, name: str) -> None:
    check_round_trip(real_data / "dicom" / name, tmp_path / "case.dcm")
