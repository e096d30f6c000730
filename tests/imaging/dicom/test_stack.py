from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from moe_pipeline.errors import ImageError
from moe_pipeline.imaging.dicom.frame import Frame, frames_of
from moe_pipeline.imaging.dicom.library import read_dataset
from moe_pipeline.imaging.dicom.stack import stack_frames, volumes_of


def frames_in(folder: Path) -> list[Frame]:
    return [frame for path in sorted(folder.rglob("*.dcm")) for frame in frames_of(read_dataset(path), path)]


def refusal(folder: Path) -> tuple[str, str]:
    with pytest.raises(ImageError) as caught:
        stack_frames(frames_in(folder), "scan")
    return caught.value.kind, str(caught.value)


@pytest.mark.parametrize("heights_mm", [[0, 3, 9, 12], [12, 9, 3, 0]])
def test_a_missing_slice_is_named(tmp_path: Path, dicom_phantoms: ModuleType, heights_mm: list[float]) -> None:
    dicom_phantoms.write_series(tmp_path, heights_mm, orientation=dicom_phantoms.OBLIQUE)
    kind, message = refusal(tmp_path)
    assert kind == "missing_slices"
    assert "4 slices are 3 to 6 mm apart, usually 3 mm: 1 of 5 are missing" in message
    assert "between 2 and 3" in message


def test_uneven_slices_are_refused_and_rounded_ones_are_not(tmp_path: Path, dicom_phantoms: ModuleType) -> None:
    dicom_phantoms.write_series(tmp_path / "uneven", [0, 3, 7, 10])
    kind, message = refusal(tmp_path / "uneven")
    assert kind == "irregular_slices"
    assert "3 to 4 mm apart, usually 3 mm: some are missing, or they are unevenly spaced" in message
    dicom_phantoms.write_series(tmp_path / "rounded", [0, 1.2, 2.5, 3.8, 5])
    assert stack_frames(frames_in(tmp_path / "rounded"), "scan").geometry.spacing_mm[2] == pytest.approx(1.25)


def test_gantry_tilt_is_refused_with_its_angle(tmp_path: Path, dicom_phantoms: ModuleType) -> None:
    dicom_phantoms.write_series(tmp_path, [0, 4, 8], tilt_mm=3)
    kind, message = refusal(tmp_path)
    assert kind == "tilted_slices"
    assert "shifted sideways by 3 mm each, 6 mm in all (gantry tilt of 36.9 degrees)" in message


def test_a_small_tilt_adds_up(tmp_path: Path, dicom_phantoms: ModuleType) -> None:
    dicom_phantoms.write_series(tmp_path / "short", [0, 4, 8], tilt_mm=0.05)
    assert stack_frames(frames_in(tmp_path / "short"), "scan").geometry.shape == (4, 5, 3)
    dicom_phantoms.write_series(tmp_path / "long", [4.0 * k for k in range(30)], tilt_mm=0.05)
    assert refusal(tmp_path / "long")[0] == "tilted_slices"


def test_a_slice_that_is_there_twice_is_named(tmp_path: Path, dicom_phantoms: ModuleType) -> None:
    paths = dicom_phantoms.write_series(tmp_path)
    (tmp_path / "copy.dcm").write_bytes(paths[1].read_bytes())
    kind, message = refusal(tmp_path)
    assert kind == "duplicate"
    assert "001.dcm, copy.dcm" in message


def test_different_orientations_and_sizes_are_refused(tmp_path: Path, dicom_phantoms: ModuleType) -> None:
    dicom_phantoms.write_series(tmp_path / "a")
    dicom_phantoms.write_series(tmp_path / "a", [0], orientation=dicom_phantoms.OBLIQUE, start=9)
    assert "different orientations (1 of 5 differ from the first)" in refusal(tmp_path / "a")[1]
    dicom_phantoms.write_series(tmp_path / "b")
    dicom_phantoms.write_series(tmp_path / "b", [26], voxels=np.zeros((1, 6, 4)), start=9)
    assert "differ in size: 4 of 4x5 pixels of 2x3 mm, 1 of 4x6 pixels of 2x3 mm" in refusal(tmp_path / "b")[1]


def test_a_single_slice_is_as_thick_as_its_header_says(tmp_path: Path, dicom_phantoms: ModuleType) -> None:
    dicom_phantoms.write_series(tmp_path / "thick", [5])
    assert stack_frames(frames_in(tmp_path / "thick"), "scan").geometry.spacing_mm == (2, 3, 1.5)
    dicom_phantoms.write_series(tmp_path / "unknown", [5], SliceThickness=None)
    assert "a single slice, and its header has no thickness" in refusal(tmp_path / "unknown")[1]


@pytest.mark.parametrize(
    ("attribute", "values", "shorts", "title"),
    [
        ("DiffusionBValue", [800.0, 50.0], ["b50", "b800"], "b-value 50"),
        ("TemporalPositionIdentifier", [2, 1], ["t1", "t2"], "time point 1"),
        ("TriggerTime", ["30", "0"], ["trigger0", "trigger30"], "trigger time 0"),
        ("EchoTime", ["4.8", "2.4"], ["te2.4", "te4.8"], "echo time 2.4"),
        ("AcquisitionNumber", [10, 9], ["acq9", "acq10"], "acquisition number 9"),
        ("ImageType", [["ORIGINAL", "P"], ["ORIGINAL", "M"]], ["type1", "type2"], "image type ORIGINAL/M"),
    ],
)
def test_volumes_of_one_series_are_told_apart(
    tmp_path: Path, dicom_phantoms: ModuleType, attribute: str, values: list[Any], shorts: list[str], title: str
) -> None:
    extra = [{attribute: value} for value in values for _ in range(3)]
    dicom_phantoms.write_series(tmp_path, [0, 3, 6, 0, 3, 6], extra=extra)
    volumes = volumes_of(frames_in(tmp_path), "scan")
    assert [volume.short for volume in volumes] == shorts
    assert volumes[0].title == title
    assert [frame.path.name for frame in volumes[0].stack.frames] == ["003.dcm", "004.dcm", "005.dcm"]
    kind, message = refusal(tmp_path)
    assert kind == "several_volumes"
    assert f"2 volumes in one series of 6 slices ({title}: 3 slices; " in message


def test_siemens_b_values_are_private(tmp_path: Path, dicom_phantoms: ModuleType) -> None:
    for number, path in enumerate(dicom_phantoms.write_series(tmp_path, [0, 3, 0, 3])):
        dataset = read_dataset(path, pixels=True)
        dataset.private_block(0x19, "SIEMENS MR HEADER", create=True).add_new(0x0C, "IS", 50 if number < 2 else 800)
        dataset.save_as(path)
    assert [volume.title for volume in volumes_of(frames_in(tmp_path), "scan")] == ["b-value 50", "b-value 800"]


def test_two_properties_together_tell_apart_what_neither_does_alone(tmp_path: Path, dicom_phantoms: ModuleType) -> None:
    pairs = [(b, echo) for b in (0.0, 500.0) for echo in ("1", "2") for _ in range(2)]
    extra = [{"DiffusionBValue": b, "EchoTime": echo} for b, echo in pairs]
    dicom_phantoms.write_series(tmp_path, [0, 3] * 4, extra=extra)
    volumes = volumes_of(frames_in(tmp_path), "scan")
    assert [volume.short for volume in volumes] == ["b0te1", "b0te2", "b500te1", "b500te2"]
    assert volumes[3].title == "b-value and echo time 500, 2"


def test_volumes_that_nothing_tells_apart_are_refused(tmp_path: Path, dicom_phantoms: ModuleType) -> None:
    dicom_phantoms.write_series(tmp_path, [0, 3, 6, 0, 3])
    kind, message = refusal(tmp_path)
    assert kind == "several_volumes"
    assert "5 slices lie at 3 places (1 with 1, 2 with 2)" in message


def test_a_volume_with_a_missing_slice_is_named(tmp_path: Path, dicom_phantoms: ModuleType) -> None:
    extra = [{"DiffusionBValue": b} for b in (0.0, 0.0, 0.0, 0.0, 9.0, 9.0, 9.0)]
    dicom_phantoms.write_series(tmp_path, [0, 3, 6, 9, 0, 3, 9], extra=extra)
    assert refusal(tmp_path)[1].startswith("scan (b-value 9): 3 slices are 3 to 6 mm apart")


def test_frames_of_one_file_are_told_apart(tmp_path: Path, dicom_phantoms: ModuleType) -> None:
    groups = [{"MRDiffusionSequence": {"DiffusionBValue": b}} for b in (0.0, 700.0, 0.0, 700.0)]
    positions = [(7, 8, z) for z in (0, 0, 4, 4)]
    dicom_phantoms.write_frames(tmp_path / "e.dcm", np.zeros((4, 5, 4), np.uint16), positions, per_frame=groups)
    volumes = volumes_of(frames_in(tmp_path), "scan")
    assert [(volume.short, [frame.number for frame in volume.stack.frames]) for volume in volumes] == [
        ("b0", [0, 2]),
        ("b700", [1, 3]),
    ]


def test_real_series_with_a_missing_slice_is_refused(real_data: Path) -> None:
    kind, message = refusal(real_data / "bad_input" / "dicom_missing_slice")
    assert kind == "missing_slices"
    assert "18 slices are 3 to 6 mm apart, usually 3 mm: 1 of 19 are missing" in message


def test_real_series_with_three_volumes_is_refused_and_can_be_taken_apart(real_data: Path) -> None:
    folder = real_data / "bad_input" / "dicom_three_volumes_in_one_series"
    kind, message = refusal(folder)
    assert kind == "several_volumes"
    assert "b-value 50: 19 slices; b-value 400: 19 slices; b-value 800: 19 slices" in message
    volumes = volumes_of(frames_in(folder), "scan")
    assert [volume.short for volume in volumes] == ["b50", "b400", "b800"]
    assert {round(volume.stack.geometry.spacing_mm[2], 3) for volume in volumes} == {3.0}
