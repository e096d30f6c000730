"""What --fix repairs, that it says so, and what it leaves alone."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from dataset_conversion.checking.fixing import chosen, fixes_named
from dataset_conversion.convert import convert
from moe_pipeline.errors import DatasetError
from moe_pipeline.files import sha256_file
from moe_pipeline.imaging.io.native import read_native, write_native
from moe_pipeline.imaging.volume import Volume
from moe_pipeline.records.check import Fix
from moe_pipeline.records.dataset import ConversionReport

MakeDataset = Callable[..., Path]


@pytest.fixture
def folder(tmp_path: Path, make_phantom_dataset: MakeDataset) -> Path:
    return make_phantom_dataset(tmp_path / "Dataset001_P", 3)


def label(folder: Path, case_id: str) -> Path:
    return folder / "labelsTr" / f"{case_id}.nii.gz"


def image(folder: Path, case_id: str) -> Path:
    return folder / "imagesTr" / f"{case_id}_0000.nii.gz"


def rows(report: ConversionReport) -> dict[str, tuple[str, str]]:
    return {row.case_id: (row.status, row.message) for row in report.rows}


def converted(folder: Path, *fixes: Fix) -> tuple[ConversionReport, Path]:
    out = folder.parent / "out" / "Dataset002_Q"
    before = {path: (sha256_file(path), path.stat().st_mtime_ns) for path in folder.rglob("*") if path.is_file()}
    report = convert(folder, out, fixes=fixes)
    assert before == {
        path: (sha256_file(path), path.stat().st_mtime_ns) for path in folder.rglob("*") if path.is_file()
    }
    return report, out


def shift(path: Path, mm: float) -> None:
    read = sitk.ReadImage(str(path))
    x, y, z = read.GetOrigin()
    read.SetOrigin((x + mm, y, z))
    sitk.WriteImage(read, str(path))


def test_headers_within_the_tolerance_are_snapped_and_others_are_not(folder: Path) -> None:
    shift(label(folder, "p000"), 0.05)
    shift(label(folder, "p001"), 0.5)
    assert [row.case_id for row in converted(folder)[0].failed] == ["p000", "p001"]
    report, out = converted(folder, "safe")
    status, message = rows(report)["p000"]
    assert status == "converted"
    assert "label: header set to that of the image (origin" in message
    assert "voxels moved by 0.049 at most" in message  # 0.05 mm along an axis 10 degrees off
    assert rows(report)["p001"][0] == "failed"
    repaired, original = read_native(label(out, "p000")), read_native(image(out, "p000"))
    assert repaired.geometry.differences(original.geometry, 1e-4) == []
    np.testing.assert_array_equal(repaired.array, read_native(label(folder, "p000")).array)


def test_what_was_mended_is_still_said_by_a_second_run(folder: Path) -> None:
    shift(label(folder, "p000"), 0.05)
    first = rows(converted(folder, "safe")[0])["p000"]
    assert rows(converted(folder, "safe")[0])["p000"] == ("present", first[1])


def test_a_label_in_another_axis_order_is_turned(folder: Path) -> None:
    turned = sitk.PermuteAxes(sitk.ReadImage(str(label(folder, "p000"))), (2, 0, 1))
    sitk.WriteImage(turned, str(label(folder, "p000")))
    report, out = converted(folder, "snap")
    assert rows(report)["p000"][0] == "converted"
    volume = read_native(label(out, "p000"))
    assert volume.geometry.differences(read_native(image(out, "p000")).geometry, 1e-4) == []
    expected = sitk.GetArrayFromImage(sitk.PermuteAxes(turned, (1, 2, 0))).transpose()
    np.testing.assert_array_equal(volume.array, expected)


def test_labels_that_are_whole_but_for_rounding_are_rounded(folder: Path) -> None:
    for case_id, factor in (("p000", 0.999), ("p001", 0.7)):
        volume = read_native(label(folder, case_id))
        write_native(Volume(volume.array * np.float32(factor), volume.geometry), label(folder, case_id))
    whole = read_native(label(folder, "p000")).array.round()
    report, out = converted(folder, "round")
    n_voxels = int(np.count_nonzero(whole))
    assert rows(report)["p000"][0] == "converted"
    assert f"label: {n_voxels} voxels rounded, by 0.003 at most" in rows(report)["p000"][1]
    assert "soft label" in rows(report)["p001"][1]
    written = read_native(label(out, "p000"))
    assert written.array.dtype == np.uint8
    np.testing.assert_array_equal(written.array, whole)


def test_a_label_is_resampled_only_if_that_is_asked_for(folder: Path) -> None:
    coarse = sitk.ReadImage(str(label(folder, "p000")))
    sitk.WriteImage(sitk.Shrink(coarse, (2, 2, 1)), str(label(folder, "p000")))
    assert rows(converted(folder, "safe")[0])["p000"][0] == "failed"
    report, out = converted(folder, "resample-labels")
    status, message = rows(report)["p000"]
    assert status == "converted"
    assert "label resampled from 10x13x14 at 2x2.4x2.5 mm onto the image's 20x26x14 at 1x1.2x2.5 mm" in message
    assert "ml of foreground became" in message
    written = read_native(label(out, "p000"))
    assert written.geometry.differences(read_native(image(out, "p000")).geometry, 1e-4) == []
    assert set(np.unique(written.array)) == {0, 1, 3}


def test_a_label_in_the_background_is_not_resampled_into_nothing(folder: Path) -> None:
    shift(label(folder, "p000"), 500)
    report, _ = converted(folder, "resample-labels")
    assert rows(report)["p000"] == (
        "failed",
        "resampled onto its image, no voxel of the label is left: they do not overlap",
    )


def test_4d_images_become_channels_if_that_is_asked_for(folder: Path) -> None:
    for number in range(3):
        path = image(folder, f"p00{number}")
        read = sitk.ReadImage(str(path))
        sitk.WriteImage(sitk.JoinSeries([read, read + 7][: 1 + (number < 2)]), str(path))
    assert "2 channels, but the dataset has 1 (MR0)" in rows(converted(folder, "safe")[0])["p000"][1]
    report, out = converted(folder, "split-4d")
    assert {case: status for case, (status, _) in rows(report).items()} == {
        "p000": "converted",
        "p001": "converted",
        "p002": "failed",
    }
    first, second = (read_native(out / "imagesTr" / f"p000_000{n}.nii.gz").array for n in (0, 1))
    np.testing.assert_array_equal(first + 7, second)
    assert "MR0_1" in (out / "dataset.json").read_text()


def test_slightly_sheared_files_are_freed_of_shear(folder: Path, shear: Callable[[Path, float], None]) -> None:
    before = read_native(label(folder, "p000")).array
    for path in (image(folder, "p000"), label(folder, "p000")):
        shear(path, 0.002)
    report, out = converted(folder, "snap")
    status, message = rows(report)["p000"]
    assert status == "converted"
    assert "p000_0000.nii.gz: sheared axes set at right angles; voxels moved by 0.0" in message
    np.testing.assert_array_equal(read_native(label(out, "p000")).array, before)


def test_fixes_are_known_by_name() -> None:
    assert fixes_named(["split-4d", "safe"]) == ("safe", "split-4d")
    assert chosen(fixes_named(["safe"])) == {"snap", "round"}
    with pytest.raises(DatasetError, match="--fix magic: no such fix; there are: safe, snap, round"):
        fixes_named(["magic"])
