from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from moe_pipeline.errors import ImageError
from moe_pipeline.imaging.files import list_images, read_geometry, read_volume


def write_series(folder: Path, heights_mm: list[float], uid: str = "1.2.3", shift_mm: float = 0.0) -> None:
    """Slices 4x5 of 2x3 mm; slice k at heights_mm[k] holds the value k."""
    folder.mkdir(parents=True, exist_ok=True)
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    for number, height in enumerate(heights_mm):
        image = sitk.Image(4, 5, 1, sitk.sitkInt16) + number
        image.SetSpacing((2.0, 3.0, 1.0))
        tags = {
            "0008|0016": "1.2.840.10008.5.1.4.1.1.4",
            "0008|0018": f"{uid}.{number}",
            "0008|0060": "MR",
            "0020|000d": "1.2.9",
            "0020|000e": uid,
            "0020|0013": str(number),
            "0020|0032": f"7\\{8 + shift_mm * number}\\{height}",
            "0020|0037": "1\\0\\0\\0\\1\\0",
        }
        for tag, value in tags.items():
            image.SetMetaData(tag, value)
        image.SetOrigin((7, 8 + shift_mm * number, height))
        writer.SetFileName(str(folder / f"{uid}-{number:03d}.dcm"))
        writer.Execute(image)


def test_an_even_series_is_read_in_canonical_order(tmp_path: Path) -> None:
    write_series(tmp_path / "series", [10, 14, 18, 22])
    volume = read_volume(tmp_path / "series")
    assert volume.array.shape == (4, 5, 4)
    assert volume.geometry.spacing_mm == (2, 3, 4)
    np.testing.assert_array_equal(volume.array[0, 0], [0, 1, 2, 3])
    np.testing.assert_allclose(volume.geometry.origin_mm, (-7 - 3 * 2, -8 - 4 * 3, 10))
    assert read_geometry(tmp_path / "series").canonical() == volume.geometry
    assert list_images(tmp_path) == [("series", tmp_path / "series")]


@pytest.mark.parametrize(
    ("heights_mm", "message"),
    [
        ([0, 3, 9, 12], "3 to 6 mm apart, usually 3 mm: some are missing"),
        ([0, 3, 0, 3], "2 of 4 slices lie at the place of another one: several volumes"),
    ],
)
def test_uneven_series_are_refused(tmp_path: Path, heights_mm: list[float], message: str) -> None:
    write_series(tmp_path, heights_mm)
    with pytest.raises(ImageError, match=message):
        read_volume(tmp_path)


def test_gantry_tilt_is_refused(tmp_path: Path) -> None:
    write_series(tmp_path, [0, 3, 6], shift_mm=1.0)
    with pytest.raises(ImageError, match=r"shifted sideways by 1 mm each \(gantry tilt\)"):
        read_volume(tmp_path)


def test_two_series_in_one_folder_are_refused(tmp_path: Path) -> None:
    write_series(tmp_path, [0, 3, 6])
    write_series(tmp_path, [0, 3], uid="1.2.4")
    with pytest.raises(ImageError, match=r"2 DICOM series .*Put each series into a folder of its own"):
        read_volume(tmp_path)


def test_a_folder_without_dicom_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="no DICOM series found"):
        read_volume(tmp_path)


def test_real_series_with_a_missing_slice_is_refused(real_data: Path) -> None:
    (folder,) = {path.parent for path in (real_data / "bad_input" / "dicom_missing_slice").rglob("*.dcm")}
    with pytest.raises(ImageError, match="3 to 6 mm apart"):
        read_volume(folder)
