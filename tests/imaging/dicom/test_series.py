import shutil
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import SimpleITK as sitk

from moe_pipeline.errors import ImageError, PipelineError
from moe_pipeline.imaging import dicom
from moe_pipeline.imaging.io.files import list_images, read_geometry, read_volume
from moe_pipeline.imaging.io.native import read_native

REAL_SERIES = ("torchio_ct", "hippocrop_Study1/13_HCropVolume", "rt-utils_oriented_data", "ibsi_1_ct_radiomics_phantom")


def test_an_even_series_is_read_in_canonical_order(tmp_path: Path, dicom_phantoms: ModuleType) -> None:
    dicom_phantoms.write_series(tmp_path / "series")
    volume = read_volume(tmp_path / "series")
    assert volume.array.shape == (4, 5, 4)
    assert volume.geometry.spacing_mm == (2, 3, 4)
    np.testing.assert_array_equal(volume.array[0, 0], [0, 1, 2, 3])
    np.testing.assert_allclose(volume.geometry.origin_mm, (-7 - 3 * 2, -8 - 4 * 3, 10))
    assert read_geometry(tmp_path / "series").canonical() == volume.geometry


def test_slices_are_ordered_by_place_not_by_name(tmp_path: Path, dicom_phantoms: ModuleType) -> None:
    dicom_phantoms.write_series(tmp_path, [22, 10, 18, 14])
    np.testing.assert_array_equal(read_native(tmp_path).array[0, 0], [1, 3, 2, 0])


def test_oblique_series_agree_with_itk(tmp_path: Path, dicom_phantoms: ModuleType) -> None:
    random = np.random.default_rng(0)
    for name, orientation in (("oblique", dicom_phantoms.OBLIQUE), ("sagittal", (0, 1, 0, 0, 0, -1))):
        voxels = random.integers(-50, 50, (3, 5, 4))
        paths = dicom_phantoms.write_series(tmp_path / name, [0, 2.5, 5], orientation=orientation, voxels=voxels)
        sitk.WriteImage(sitk.ReadImage([str(path) for path in paths]), str(tmp_path / f"{name}.nii.gz"))
        ours, itks = read_volume(tmp_path / name), read_volume(tmp_path / f"{name}.nii.gz")
        assert ours.geometry.differences(itks.geometry) == []
        np.testing.assert_array_equal(ours.array, itks.array)


@pytest.mark.parametrize(("slope", "intercept", "dtype"), [("2", "-1024", "int16"), ("0.5", "0.25", "float32")])
def test_slope_and_intercept_are_applied(
    tmp_path: Path, dicom_phantoms: ModuleType, slope: str, intercept: str, dtype: str
) -> None:
    dicom_phantoms.write_series(tmp_path, RescaleSlope=slope, RescaleIntercept=intercept)
    array = read_native(tmp_path).array
    assert array.dtype == dtype
    np.testing.assert_array_equal(array[1, 2], np.arange(4) * float(slope) + float(intercept))


def test_each_slice_has_its_own_slope(tmp_path: Path, dicom_phantoms: ModuleType) -> None:
    slopes = [{"RescaleSlope": str(slope), "RescaleIntercept": "0"} for slope in (1, 0.5, 4, 0.25)]
    dicom_phantoms.write_series(tmp_path, extra=slopes)
    np.testing.assert_array_equal(read_native(tmp_path).array[0, 0], [0, 0.5, 8, 0.75])


def test_compressed_slices_are_decoded(tmp_path: Path, dicom_phantoms: ModuleType) -> None:
    import pydicom

    voxels = np.random.default_rng(0).integers(0, 1000, (4, 16, 16))
    for path in dicom_phantoms.write_series(tmp_path, voxels=voxels):
        dataset = pydicom.dcmread(path)
        dataset.compress(pydicom.uid.RLELossless)
        dataset.save_as(path)
    np.testing.assert_array_equal(read_native(tmp_path).array, voxels.transpose(2, 1, 0))


def test_two_series_in_one_folder_are_refused(tmp_path: Path, dicom_phantoms: ModuleType) -> None:
    dicom_phantoms.write_series(tmp_path)
    dicom_phantoms.write_series(tmp_path, [0, 3], uid="1.2.4", start=10)
    with pytest.raises(ImageError, match=r"2 DICOM series \(4 slices, 2 slices\).*Put each series into a folder"):
        read_volume(tmp_path)


def test_contours_and_text_beside_the_slices_do_not_matter(tmp_path: Path, dicom_phantoms: ModuleType) -> None:
    dicom_phantoms.write_series(tmp_path)
    dicom_phantoms.write_rtstruct(tmp_path / "0.dcm", {})
    (tmp_path / "README").write_text("about these slices")
    assert read_volume(tmp_path).array.shape == (4, 5, 4)


def test_a_folder_without_dicom_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="no DICOM series found"):
        read_volume(tmp_path)


def test_damaged_slices_are_named(tmp_path: Path, dicom_phantoms: ModuleType) -> None:
    path = dicom_phantoms.write_series(tmp_path)[2]
    path.write_bytes(path.read_bytes()[:-11])
    with pytest.raises(ImageError, match=r"002\.dcm: cannot be decoded"):
        read_volume(tmp_path)
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(ImageError, match=r"002\.dcm: "):
        read_volume(tmp_path)


def test_colour_pictures_are_refused(tmp_path: Path, dicom_phantoms: ModuleType) -> None:
    dicom_phantoms.write_series(tmp_path, SamplesPerPixel=3)
    with pytest.raises(ImageError, match=r"a colour picture \(3 numbers per pixel\)"):
        read_volume(tmp_path)


def test_frames_of_an_enhanced_file_are_sorted_and_rescaled(tmp_path: Path, dicom_phantoms: ModuleType) -> None:
    pixels = np.arange(3 * 5 * 4, dtype=np.uint16).reshape(3, 5, 4)
    slopes = [{"PixelValueTransformationSequence": {"RescaleSlope": s, "RescaleIntercept": 1}} for s in ("1", "2", "3")]
    dicom_phantoms.write_frames(tmp_path / "e.dcm", pixels, [(7, 8, 14), (7, 8, 10), (7, 8, 18)], per_frame=slopes)
    volume = read_native(tmp_path)
    expected = np.stack([pixels[1] * 2 + 1, pixels[0] + 1, pixels[2] * 3 + 1]).transpose(2, 1, 0)
    np.testing.assert_array_equal(volume.array, expected)
    assert volume.geometry.spacing_mm == (2, 3, 4)
    np.testing.assert_allclose(volume.geometry.origin_mm, (-7, -8, 10))


def test_frames_without_places_are_refused(tmp_path: Path, dicom_phantoms: ModuleType) -> None:
    dicom_phantoms.write_series(tmp_path, [0], NumberOfFrames=2)
    with pytest.raises(ImageError, match="2 frames, and nothing says where they lie"):
        read_volume(tmp_path)


def test_series_are_listed_wherever_they_lie(tmp_path: Path, dicom_phantoms: ModuleType) -> None:
    dicom_phantoms.write_series(tmp_path / "in" / "direct")
    dicom_phantoms.write_series(tmp_path / "in" / "patient" / "study" / "7.000-t2 tse")
    dicom_phantoms.write_rtstruct(tmp_path / "in" / "patient" / "mask" / "rs.dcm", {})
    folder = tmp_path / "in"
    nested = folder / "patient" / "study" / "7.000-t2 tse"
    assert list_images(folder) == [("direct", folder / "direct"), ("patient_study_7.000-t2 tse", nested)]
    assert list_images(nested) == [("7.000-t2 tse", nested)]


def test_without_pydicom_the_error_says_what_to_install(
    tmp_path: Path, dicom_phantoms: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    dicom_phantoms.write_series(tmp_path)
    monkeypatch.setitem(sys.modules, "pydicom", None)
    assert dicom.is_series_folder(tmp_path)
    with pytest.raises(PipelineError, match=r"pip install 'moe-pipeline\[dicom\]'"):
        read_volume(tmp_path)


@pytest.mark.parametrize("name", REAL_SERIES)
def test_real_series_agree_with_itk(tmp_path: Path, real_data: Path, name: str) -> None:
    (folder,) = dicom.series_folders(real_data / "dicom" / name)
    files = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder))
    sitk.WriteImage(sitk.ReadImage(files), str(tmp_path / "itk.nrrd"))
    ours, itks = read_volume(folder), read_volume(tmp_path / "itk.nrrd")
    assert ours.geometry.differences(itks.geometry) == []
    np.testing.assert_array_equal(ours.array, itks.array)


@pytest.mark.parametrize("name", ["ibsi_1_ct_radiomics_phantom", "sts_images/STS_001/CT", "sts_images/STS_001/MR_T1"])
def test_real_series_agree_with_the_nifti_beside_them(real_data: Path, name: str) -> None:
    folder = real_data / "dicom" / name
    (nifti,) = (folder / "nifti" / "image").iterdir()
    ours, theirs = read_volume(folder / "dicom" / "image"), read_volume(nifti)
    assert ours.geometry.differences(theirs.geometry) == []
    np.testing.assert_array_equal(ours.array, theirs.array)


@pytest.mark.parametrize("name", ["23x38x3", "24x38x3"])
def test_the_multi_frame_form_of_a_real_series_is_the_same(real_data: Path, name: str) -> None:
    folder = real_data / "dicom" / "dcmqi_segmentations" / name
    single, multi = read_native(folder / "image"), read_native(folder / "multiframe")
    assert single.geometry == multi.geometry
    np.testing.assert_array_equal(single.array, multi.array)


def test_files_without_preamble_are_read(tmp_path: Path, dicom_phantoms: ModuleType) -> None:
    paths = dicom_phantoms.write_series(tmp_path / "with")
    shutil.copytree(tmp_path / "with", tmp_path / "without")
    for path in paths:
        (tmp_path / "without" / path.name).write_bytes(path.read_bytes()[132:])
    np.testing.assert_array_equal(read_native(tmp_path / "without").array, read_native(tmp_path / "with").array)
