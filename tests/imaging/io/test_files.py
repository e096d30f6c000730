import gzip
import json
import struct
import subprocess
import sys
from itertools import permutations, product
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from moe_pipeline.errors import GeometryError, ImageError
from moe_pipeline.imaging.geometry import Geometry
from moe_pipeline.imaging.io.files import (
    case_id_of,
    images_in,
    label_values,
    list_images,
    list_label_maps,
    read_geometry,
    read_label_map,
    read_volume,
    write_image,
    write_label_map,
)
from moe_pipeline.imaging.volume import Volume
from tests.phantoms.images import write_file

ORIENTATIONS = [
    np.eye(3)[:, list(order)] * np.array(signs)
    for order, signs in product(permutations(range(3)), product((1, -1), repeat=3))
]
TILT = np.array([[0.96, -0.28, 0.0], [0.28, 0.96, 0.0], [0.0, 0.0, 1.0]])
SPACING = (0.75, 1.5, 4.25)
ORIGIN_LPS = (-31.5, 12.25, 80.0)


def write(
    path: Path,
    array_xyz: np.ndarray,
    direction: np.ndarray | None = None,
    spacing: tuple[float, float, float] = SPACING,
) -> Path:
    write_file(path, array_xyz, spacing, ORIGIN_LPS, np.eye(3) if direction is None else direction)
    return path


def header(path: Path) -> tuple[tuple[float, ...], ...]:
    image = sitk.ReadImage(str(path))
    return image.GetSize(), image.GetSpacing(), image.GetOrigin(), image.GetDirection()


@pytest.mark.parametrize("direction", ORIENTATIONS)
@pytest.mark.parametrize("tilt", [np.eye(3), TILT], ids=["upright", "oblique"])
def test_label_maps_come_back_on_the_images_own_grid(tmp_path: Path, direction: np.ndarray, tilt: np.ndarray) -> None:
    array = np.zeros((4, 6, 5), np.int16)
    array[3, 1, 2] = 7
    source = write(tmp_path / "in.nii.gz", array, tilt @ direction)
    marked_lps = sitk.ReadImage(str(source)).TransformIndexToPhysicalPoint((3, 1, 2))
    labels = read_label_map(source)
    (index,) = np.argwhere(labels.array)
    expected_ras = np.array(marked_lps) * (-1, -1, 1)
    np.testing.assert_allclose(labels.geometry.voxel_to_world(index), expected_ras, atol=1e-4)
    assert np.abs(labels.geometry.matrix - tilt_in_ras(tilt)).max() < 1e-5

    write_label_map(labels, tmp_path / "out.nii.gz", read_geometry(source))
    for found, wanted in zip(header(tmp_path / "out.nii.gz"), header(source), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "out.nii.gz"))).T, array)


def tilt_in_ras(tilt: np.ndarray) -> np.ndarray:
    flip = np.diag([-1.0, -1.0, 1.0])
    return flip @ tilt @ flip


@pytest.mark.parametrize("suffix", [".nii.gz", ".nii", ".nrrd", ".mha"])
def test_headers_are_kept_by_every_format(tmp_path: Path, suffix: str) -> None:
    array = np.random.default_rng(0).normal(size=(4, 6, 5)).astype(np.float32)
    source = write(tmp_path / f"in{suffix}", array, TILT @ ORIENTATIONS[13])
    image = read_volume(source)
    write_image(image, tmp_path / f"out{suffix}", read_geometry(source))
    for found, wanted in zip(header(tmp_path / f"out{suffix}"), header(source), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(read_volume(tmp_path / f"out{suffix}").array, image.array)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize("kind", ["u1", "i1", "i2", "u2", "i4", "u4", "i8", "f4", "f8"])
def test_our_nifti_voxels_equal_itks(tmp_path: Path, kind: str) -> None:
    array = np.random.default_rng(0).integers(0, 100, (4, 6, 5)).astype(kind)
    source = write(tmp_path / "in.nii.gz", array, ORIENTATIONS[0])
    expected = sitk.GetArrayFromImage(sitk.ReadImage(str(source), sitk.sitkFloat32)).T
    np.testing.assert_array_equal(np.sort(read_volume(source).array.ravel()), np.sort(expected.ravel()))


def test_scaled_nifti(tmp_path: Path) -> None:
    array = np.arange(120, dtype=np.int16).reshape(4, 6, 5)
    content = bytearray(write(tmp_path / "in.nii", array).read_bytes())
    content[112:120] = np.array([2.0, -10.0], "<f4").tobytes()
    (tmp_path / "in.nii").write_bytes(content)
    values = read_volume(tmp_path / "in.nii").array
    assert (values.min(), values.max()) == (-10, 228)
    expected = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "in.nii"), sitk.sitkFloat32))
    np.testing.assert_array_equal(np.sort(values.ravel()), np.sort(expected.ravel()))


def test_big_endian_nifti(tmp_path: Path) -> None:
    array = np.arange(24, dtype=">i2").reshape(2, 3, 4)
    header = bytearray(352)
    struct.pack_into(">i", header, 0, 348)
    struct.pack_into(">8h", header, 40, 3, 2, 3, 4, 1, 1, 1, 1)
    struct.pack_into(">hh", header, 70, 4, 16)
    struct.pack_into(">8f", header, 76, 1, 1, 1, 1, 0, 0, 0, 0)
    struct.pack_into(">f", header, 108, 352)
    struct.pack_into(">hh", header, 252, 0, 1)
    struct.pack_into(">12f", header, 280, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0)
    header[344:348] = b"n+1\0"
    (tmp_path / "x.nii").write_bytes(bytes(header) + array.tobytes(order="F"))
    np.testing.assert_array_equal(read_volume(tmp_path / "x.nii").array, array)


def test_gzip_of_several_members(tmp_path: Path) -> None:
    content = write(tmp_path / "in.nii", np.arange(120, dtype=np.int16).reshape(4, 6, 5)).read_bytes()
    (tmp_path / "x.nii.gz").write_bytes(gzip.compress(content[:200]) + gzip.compress(content[200:]))
    np.testing.assert_array_equal(read_volume(tmp_path / "x.nii.gz").array, read_volume(tmp_path / "in.nii").array)


def test_labels_of_whole_floats_are_accepted_and_soft_ones_refused(tmp_path: Path) -> None:
    array = np.zeros((4, 6, 5), np.float64)
    array[1, 2, 3] = 530
    assert read_label_map(write(tmp_path / "whole.nii.gz", array)).array.dtype == np.uint16
    array[0, 0, 0] = 0.25
    with pytest.raises(ImageError, match=r"soft\.nii\.gz: a label map needs whole numbers, found 0\.25"):
        read_label_map(write(tmp_path / "soft.nii.gz", array))
    array[0, 0, 0] = -1
    with pytest.raises(ImageError, match=r"0\.\.65535, found -1\.\.530"):
        read_label_map(write(tmp_path / "negative.nii.gz", array))
    array[0, 0, 0] = np.nan
    with pytest.raises(ImageError, match="found NaN"):
        read_label_map(write(tmp_path / "nan.nii.gz", array))


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2)])
def test_label_values_in_any_memory_order(order: tuple[int, int, int]) -> None:
    labels = np.zeros((3, 4, 5), np.uint16)
    labels[0, 1, 2], labels[2, 3, 4] = 530, 7
    assert label_values(labels.transpose(order)) == [0, 7, 530]
    assert label_values(labels.transpose(order)[::-1]) == [0, 7, 530]


@pytest.mark.parametrize(("highest", "dtype"), [(1, np.uint8), (255, np.uint8), (256, np.uint16)])
def test_written_labels_use_the_smallest_type(tmp_path: Path, highest: int, dtype: type) -> None:
    geometry = Geometry((2, 3, 4), (1, 1, 1))
    write_label_map(Volume(np.full((2, 3, 4), highest), geometry), tmp_path / "x.nii.gz", geometry)
    assert sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "x.nii.gz"))).dtype == dtype


def test_what_cannot_be_written_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    geometry = Geometry((2, 3, 4), (1, 1, 1))
    volume = Volume(np.zeros((2, 3, 4), np.int32), geometry)
    with pytest.raises(ImageError, match=r"choose a name that ends in \.nii\.gz"):
        write_label_map(volume, tmp_path / "x.png", geometry)
    with pytest.raises(ImageError, match="got -3"):
        write_label_map(Volume(volume.array - 3, geometry), tmp_path / "x.nii.gz", geometry)
    with pytest.raises(ImageError, match="integer array, got float64"):
        write_label_map(Volume(volume.array + 0.5, geometry), tmp_path / "x.nii.gz", geometry)
    with pytest.raises(GeometryError, match="not lie on the grid"):
        write_label_map(volume, tmp_path / "x.nii.gz", Geometry((2, 3, 4), (1, 1, 2)))
    assert list(tmp_path.iterdir()) == []


def damaged(tmp_path: Path, kind: str) -> Path:
    good = write(tmp_path / "good.nii.gz", np.random.default_rng(0).integers(0, 9999, (20, 20, 20)).astype(np.int32))
    content = good.read_bytes()
    path = tmp_path / "bad.nii.gz"
    if kind == "truncated":
        path.write_bytes(content[: len(content) // 2])
    elif kind == "no trailer":
        path.write_bytes(content[:-8])
    elif kind == "flipped bits":
        path.write_bytes(content[:-2000] + bytes(byte ^ 255 for byte in content[-2000:]))
    elif kind == "short inside":
        path.write_bytes(gzip.compress(gzip.decompress(content)[:-100]))
    elif kind == "text":
        path.write_text("not an image")
    return path


@pytest.mark.parametrize("kind", ["truncated", "no trailer", "flipped bits", "short inside", "text", "missing"])
def test_damaged_files_are_named(tmp_path: Path, kind: str) -> None:
    with pytest.raises(ImageError, match=r"bad\.nii\.gz: (trunc|damaged|not a readable image|no such file)"):
        read_volume(damaged(tmp_path, kind))


def test_truncated_nrrd_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "x.nrrd", np.random.default_rng(0).integers(0, 9999, (20, 20, 20)).astype(np.int32))
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(ImageError, match=r"x\.nrrd: cannot be read"):
        read_volume(path)


def test_other_dimensions_and_colours_are_refused(tmp_path: Path) -> None:
    four = sitk.JoinSeries([sitk.Image(4, 5, 6, sitk.sitkInt16)] * 3)
    sitk.WriteImage(four, str(tmp_path / "four.nii.gz"))
    with pytest.raises(ImageError, match=r"four\.nii\.gz: expected a 3D image, found 4D of size 4x5x6x3. Split"):
        read_volume(tmp_path / "four.nii.gz")
    sitk.WriteImage(sitk.Image(4, 5, sitk.sitkInt16), str(tmp_path / "two.nrrd"))
    with pytest.raises(ImageError, match="found 2D of size 4x5"):
        read_volume(tmp_path / "two.nrrd")
    sitk.WriteImage(sitk.Image([4, 5, 6], sitk.sitkVectorUInt8, 3), str(tmp_path / "rgb.nii.gz"))
    with pytest.raises(ImageError, match="expected one number per voxel, found 3"):
        read_volume(tmp_path / "rgb.nii.gz")


def test_a_fourth_side_of_one_is_no_fourth_dimension(tmp_path: Path) -> None:
    sitk.WriteImage(sitk.JoinSeries([sitk.Image(4, 5, 6, sitk.sitkInt16) + 3]), str(tmp_path / "x.nrrd"))
    volume = read_volume(tmp_path / "x.nrrd")
    assert volume.array.shape == (4, 5, 6)
    assert (volume.array == 3).all()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_no_numbers_are_refused(tmp_path: Path, value: float) -> None:
    array = np.zeros((4, 5, 6), np.float32)
    array[1, 1, 1] = value
    with pytest.raises(ImageError, match=r"x\.nii\.gz: 1 voxels are NaN or infinite"):
        read_volume(write(tmp_path / "x.nii.gz", array))


@pytest.mark.filterwarnings("error")
def test_numbers_too_large_to_compute_with_are_refused_without_noise(tmp_path: Path) -> None:
    array = np.zeros((4, 5, 6))
    array[1, 1, 1] = 1e300
    with pytest.raises(ImageError, match=r"x\.nii\.gz: its voxels reach from 0 to 1e\+300; expected .* at most 1e\+18"):
        read_volume(write(tmp_path / "x.nii.gz", array))


def test_sheared_grids_are_refused_without_noise(tmp_path: Path) -> None:
    content = bytearray(write(tmp_path / "x.nii", np.zeros((4, 5, 6), np.int16)).read_bytes())
    content[252:256] = np.array([0, 1], "<i2").tobytes()  # qform off, sform on
    content[280:328] = np.array([[1, 0.3, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]], "<f4").tobytes()
    (tmp_path / "x.nii").write_bytes(content)
    with pytest.raises(GeometryError, match=r"x\.nii: its index axes are not orthogonal"):
        read_volume(tmp_path / "x.nii")
    code = (
        "from pathlib import Path\n"
        "from moe_pipeline.errors import GeometryError\nfrom moe_pipeline.imaging.io.files import read_volume\n"
        f"try: read_volume(Path({str(tmp_path / 'x.nii')!r}))\nexcept GeometryError: pass"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stderr == b""


def test_reading_needs_no_torch(tmp_path: Path) -> None:
    path = write(tmp_path / "x.nii.gz", np.zeros((4, 5, 6), np.int16))
    code = (
        "import sys; from pathlib import Path; import moe_pipeline.imaging.views\n"
        "from moe_pipeline.imaging.io import files\n"
        f"files.read_volume(Path({str(path)!r})); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_list_images_gives_ids_in_order_and_skips_the_rest(tmp_path: Path) -> None:
    for name in ("b.nii.gz", "a.nrrd", "c.mha", ".hidden.nii.gz", "notes.txt"):
        (tmp_path / name).touch()
    (tmp_path / "folder").mkdir()
    assert [(case, path.name) for case, path in list_images(tmp_path)] == [
        ("a", "a.nrrd"),
        ("b", "b.nii.gz"),
        ("c", "c.mha"),
    ]
    (tmp_path / "a.mha").touch()
    with pytest.raises(ImageError, match=r"two images for the case a: a\.mha and a\.nrrd"):
        list_images(tmp_path)
    listed = images_in(tmp_path)
    assert [case for case, _ in listed.files] == ["b", "c"]
    assert list(listed.doubled) == ["a"]
    assert len(listed.paths) == 4
    with pytest.raises(ImageError, match="no such folder"):
        list_images(tmp_path / "nowhere")


def test_a_channel_that_is_there_twice_costs_its_case(tmp_path: Path) -> None:
    folder = touch(tmp_path / "channels", "x_0000", "x_0001", "y_0000", "y_0001")
    (folder / "x_0001.nrrd").touch()
    listed = images_in(folder)
    assert [case for case, _ in listed.files] == ["y"]
    assert "x_0001.nii.gz and x_0001.nrrd" in listed.doubled["x"]


def test_a_name_in_either_form_of_unicode_is_one_case(tmp_path: Path) -> None:
    composed, decomposed = "M\u00fcller", "Mu\u0308ller"
    folder = touch(tmp_path / "mac", decomposed)
    assert [case for case, _ in images_in(folder).files] == [composed]
    (folder / f"{composed}.nii.gz").touch()
    assert list(images_in(folder).doubled) == [composed]


def touch(folder: Path, *names: str) -> Path:
    folder.mkdir(parents=True)
    for name in names:
        (folder / f"{name}.nii.gz").touch()
    return folder


def test_list_images_knows_nnunet_channels_from_numbered_cases(tmp_path: Path) -> None:
    cases = touch(tmp_path / "cases", "amos_0013", "amos_0014")
    assert [case for case, _ in list_images(cases)] == ["amos_0013", "amos_0014"]
    channels = touch(tmp_path / "channels", "x_0000", "x_0001", "y_0000", "y_0001")
    assert [(case, path.name) for case, path in list_images(channels)] == [
        ("x", "x_0000.nii.gz"),
        ("y", "y_0000.nii.gz"),
    ]
    assert [case for case, _ in list_images(touch(tmp_path / "one", "x_0000"))] == ["x"]
    assert [case for case, _ in list_images(touch(tmp_path / "single", "x_0000", "y_0000"))] == ["x", "y"]
    assert list_images(touch(tmp_path / "none")) == []


@pytest.mark.parametrize("names", [[f"scan_{n:04d}" for n in range(5)], ["x_0000", "x_0001", "y_0000"]])
def test_numbered_cases_that_look_like_channels_are_not_made_one_case(tmp_path: Path, names: list[str]) -> None:
    folder = touch(tmp_path / "imagesTs", *names)
    with pytest.raises(ImageError, match=rf"cannot tell whether {names[0]}, .* put the dataset\.json .*beside"):
        list_images(folder)
    assert [case for case, _ in list_label_maps(folder)] == names


@pytest.mark.parametrize("key", ["channel_names", "modality"])
def test_dataset_json_beside_the_folder_tells_channels_from_cases(tmp_path: Path, key: str) -> None:
    names = [f"scan_{n:04d}" for n in range(4)]
    folder = touch(tmp_path / "imagesTs", *names)
    (tmp_path / "dataset.json").write_text(json.dumps({key: {str(n): "MR" for n in range(4)}}))
    assert [case for case, _ in list_images(folder)] == ["scan"]
    (tmp_path / "dataset.json").write_text(json.dumps({key: {"0": "CT"}}))
    assert [case for case, _ in list_images(folder)] == names


def test_case_id_drops_the_suffix_only() -> None:
    assert case_id_of(Path("a/sub-01.T1w.NII.GZ")) == "sub-01.T1w"
    assert case_id_of(Path("dicom.folder")) == "dicom.folder"
