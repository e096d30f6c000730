from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk

from dataset_conversion.convert import convert
from dataset_conversion.layout import Options
from dataset_conversion.registry import choose_source
from moe_pipeline.datasets.dataset import open_dataset
from moe_pipeline.errors import DatasetError
from moe_pipeline.records.dataset import ConversionReport

SPACING = [0.5, 0.7, 5.0]  # x, y, z
SWAPPED = [0.0, 1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, -1.0]  # x and y swapped, z the other way


def write(path: Path, **changes: Any) -> dict[str, Any]:
    """An archive with sides of 4, 5, 6 (z, y, x); None leaves an array out."""
    labels = np.zeros((4, 5, 6), np.uint8)
    labels[1:3, 2:4, 1:5] = 1
    image = np.random.default_rng(0).integers(0, 255, (4, 5, 6)).astype(np.uint8)
    arrays: dict[str, Any] = {
        "imgs": image,
        "gts": labels,
        "spacing": SPACING,
        "direction": SWAPPED,
        "origin": [1.0, 2.0, 3.0],
    }
    arrays = {name: array for name, array in (arrays | changes).items() if array is not None}
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, **arrays)
    return arrays


def failures(report: ConversionReport) -> dict[str, str]:
    return {row.case_id: row.message for row in report.failed}


def test_an_archive_is_placed_as_it_says(tmp_path: Path) -> None:
    source = tmp_path / "in"
    arrays = write(source / "CT_Lesion_000012_01_02_008-023.npz")
    write(source / "MR_7.npz", direction=None, origin=None, boxes=np.array([{"any": 1}], dtype=object))
    assert choose_source(source) == "npz"
    report = convert(source, tmp_path / "out")
    assert not report.failed
    dataset = open_dataset(tmp_path / "out")
    assert dataset.json.patients == {"CT_Lesion_000012_01_02_008-023": "000012"}
    assert dataset.json.channel_names == {"0": "image"}
    for path, name in ((dataset.cases[0].images[0], "imgs"), (dataset.cases[0].label, "gts")):
        image = sitk.ReadImage(str(path))
        np.testing.assert_array_equal(sitk.GetArrayFromImage(image), arrays[name])
        np.testing.assert_allclose(image.GetSpacing(), SPACING, atol=1e-6)
        np.testing.assert_allclose(image.GetDirection(), SWAPPED, atol=1e-6)
        np.testing.assert_allclose(image.GetOrigin(), [1.0, 2.0, 3.0], atol=1e-6)
    notes = {row.case_id: row.message for row in report.rows}["MR_7"]
    assert "no direction in the archive, taken as left, posterior, superior; no origin in the archive" in notes
    assert sitk.ReadImage(str(dataset.case("MR_7").label)).GetOrigin() == (0, 0, 0)


def test_a_direction_that_is_identity_differs_from_one_that_swaps(tmp_path: Path) -> None:
    write(tmp_path / "in" / "a.npz", direction=np.eye(3))
    write(tmp_path / "in" / "b.npz")
    convert(tmp_path / "in", tmp_path / "out", options=Options(channels=("CT",)))
    first, second = (sitk.ReadImage(str(case.label)) for case in open_dataset(tmp_path / "out").cases)
    assert first.TransformIndexToPhysicalPoint((2, 0, 0)) == pytest.approx((2.0, 2.0, 3.0))
    assert second.TransformIndexToPhysicalPoint((2, 0, 0)) == pytest.approx((1.0, 3.0, 3.0))


def test_objects_are_never_unpickled(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, tuple[Path]]:
            return Path.touch, (tmp_path / "sprung",)

    source = tmp_path / "in"
    write(source / "good.npz")
    write(source / "image.npz", imgs=np.array([[[Trap()]]], dtype=object))
    write(source / "spacing.npz", spacing=np.array([Trap(), 1, 1], dtype=object))
    report = convert(source, tmp_path / "out")
    expected = "holds Python objects where numbers are expected. Unpickling them could run any code"
    assert set(failures(report)) == {"image", "spacing"}
    assert all(expected in message for message in failures(report).values())
    assert not (tmp_path / "sprung").exists()


def test_bad_archives_are_rows(tmp_path: Path) -> None:
    source = tmp_path / "in"
    write(source / "a.npz")
    write(source / "flat.npz", imgs=np.zeros((5, 6), np.uint8))
    write(source / "lost.npz", gts=None)
    write(source / "nowhere.npz", spacing=None)
    write(source / "short.npz", spacing=[1.0, 2.0])
    write(source / "sheared.npz", direction=[1.0, 0.5, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0])
    write(source / "unequal.npz", gts=np.zeros((4, 5, 7), np.uint8))
    write(source / "cut.npz")
    content = bytearray((source / "cut.npz").read_bytes())
    content[60:90] = bytes(30)
    (source / "cut.npz").write_bytes(content)
    (source / "text.npz").write_text("no archive")
    found = failures(convert(source, tmp_path / "out"))
    expected = {
        "flat": "flat: imgs is an array of 5x6; expected 3D (z, y, x)",
        "lost": "lost.npz: needs arrays imgs and gts, found direction, imgs, origin, spacing",
        "nowhere": "nowhere: expected a spacing of three numbers (x, y, z) in mm, found none",
        "short": "short: expected a spacing of three numbers (x, y, z) in mm, found 2",
        "sheared": "",
        "unequal": "unequal.npz: image and label lie on different grids: shape 6x5x4 against 7x5x4",
        "cut": "cut.npz: damaged or truncated archive",
        "text": "text.npz: needs arrays imgs and gts, found nothing that can be read",
    }
    assert found.keys() == expected.keys()
    for case, text in expected.items():
        assert found[case].startswith(text)


def test_patients_by_template(tmp_path: Path) -> None:
    for name in ("p1_a", "p1_b"):
        write(tmp_path / "in" / f"{name}.npz")
    convert(tmp_path / "in", tmp_path / "out", options=Options(images="{patient}_{scan}.npz"))
    assert open_dataset(tmp_path / "out").json.patients == {"p1_a": "p1", "p1_b": "p1"}
    with pytest.raises(DatasetError, match=r"no archive fits '\{case\}\.zip'"):
        convert(tmp_path / "in", tmp_path / "new", "npz", options=Options(images="{case}.zip"))


def test_real_archives_keep_their_voxels_and_places(tmp_path: Path, real_data: Path) -> None:
    source = real_data / "MedSAM2_RECIST_npz"
    report = convert(source, tmp_path / "out")
    assert not report.failed
    dataset = open_dataset(tmp_path / "out")
    assert len(dataset.cases) == 4
    case = dataset.cases[0]
    with np.load(source / f"{case.case_id}.npz", allow_pickle=False) as archive:
        image = sitk.ReadImage(str(case.images[0]))
        np.testing.assert_array_equal(sitk.GetArrayFromImage(image), archive["imgs"])
        np.testing.assert_array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(case.label))), archive["gts"])
        np.testing.assert_allclose(image.GetSpacing(), archive["spacing"], rtol=1e-6)
        np.testing.assert_allclose(image.GetDirection(), archive["direction"], atol=1e-6)


ODD: dict[str, dict[str, Any]] = {
    "zero": {"spacing": [0.0, 1.0, 2.0]},
    "negative": {"spacing": [-1.0, 1.0, 2.0]},
    "nan": {"spacing": [np.nan, 1.0, 2.0]},
    "words": {"spacing": ["1", "1", "2"]},
    "complex": {"imgs": np.ones((4, 5, 6), complex)},
    "text": {"imgs": np.full((4, 5, 6), "1")},
    "long": {"imgs": np.ones((4, 5, 6), np.longdouble)},
    "empty": {"imgs": np.zeros((0, 5, 6), np.uint8), "gts": np.zeros((0, 5, 6), np.uint8)},
    "flat": {"direction": np.zeros(9)},
    "sides": {"origin": [1.0, 2.0]},
    "nowhere": {"origin": [np.nan, 0.0, 0.0]},
}


@pytest.mark.parametrize("case", ODD)
def test_odd_arrays_cost_their_case_only_and_are_named(tmp_path: Path, case: str) -> None:
    write(tmp_path / "in" / "good.npz")
    write(tmp_path / "in" / "odd.npz", **ODD[case])
    report = convert(tmp_path / "in", tmp_path / "out")
    (row,) = report.failed
    assert row.case_id == "odd"
    assert row.message.startswith("odd: ")
    assert not (tmp_path / "out" / "crashes.log").exists()
    assert (report.accounting[0].found, report.accounting[0].used) == (2, 1)


def test_numbers_of_another_byte_order_are_read(tmp_path: Path) -> None:
    array = np.arange(4 * 5 * 6).reshape(4, 5, 6)
    write(tmp_path / "in" / "a.npz", imgs=array.astype(">i2"), gts=(array > 50).astype(">u2"))
    convert(tmp_path / "in", tmp_path / "out")
    written = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "out" / "imagesTr" / "a_0000.nii.gz")))
    np.testing.assert_array_equal(written, array)


def test_archives_without_any_label_are_test_cases_and_hidden_ones_are_no_cases(tmp_path: Path) -> None:
    write(tmp_path / "in" / "a.npz")
    with np.load(tmp_path / "in" / "a.npz") as archive:
        arrays = {name: archive[name] for name in archive.files if name != "gts"}
    np.savez(tmp_path / "in" / "a.npz", **arrays)
    (tmp_path / "in" / "._a.npz").write_bytes(b"\0\5\x16\7")
    assert choose_source(tmp_path / "in") == "npz"
    report = convert(tmp_path / "in", tmp_path / "out")
    assert report.notes == ("no case has a label: all are in imagesTs, to predict",)
    assert (tmp_path / "out" / "imagesTs" / "a_0000.nii.gz").is_file()
