import gzip
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from moe_pipeline.errors import ImageError
from moe_pipeline.imaging.io.nifti import read_voxels, set_slope

ARRAY = np.random.default_rng(0).integers(0, 1000, (70, 80, 90)).astype(np.int16)  # z, y, x


@pytest.mark.parametrize("name", ["x.nii", "x.nii.gz"])
def test_voxels_are_held_once(tmp_path: Path, name: str) -> None:
    sitk.WriteImage(sitk.GetImageFromArray(ARRAY), str(tmp_path / name))
    tracemalloc.start()
    voxels = read_voxels(tmp_path / name)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert voxels is not None
    np.testing.assert_array_equal(voxels.transpose(), ARRAY)
    assert peak < 1.5 * ARRAY.nbytes + 4_000_000  # buffers of a few MB while reading


@pytest.mark.parametrize("name", ["x.nii", "x.nii.gz"])
def test_a_header_that_promises_too_much_takes_no_memory(tmp_path: Path, name: str) -> None:
    sitk.WriteImage(sitk.GetImageFromArray(ARRAY[:4, :4, :4]), str(tmp_path / "good.nii"))
    content = bytearray((tmp_path / "good.nii").read_bytes())
    content[42:48] = np.array([30_000] * 3, "<i2").tobytes()  # sides of 54 TB
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    with pytest.raises(ImageError, match="truncated: 480 of 54000000000352 bytes are there"):
        read_voxels(tmp_path / name)


@pytest.mark.parametrize("damage", ["a changed byte", "another checksum", "no checksum", "half"])
def test_a_damaged_gzip_is_refused(tmp_path: Path, damage: str) -> None:
    sitk.WriteImage(sitk.GetImageFromArray(ARRAY), str(tmp_path / "x.nii.gz"))
    content = bytearray((tmp_path / "x.nii.gz").read_bytes())
    middle, checksum = len(content) // 2, slice(-8, -4)
    if damage == "half":
        del content[middle:]
    elif damage == "no checksum":
        del content[-8:]
    else:
        place = slice(middle, middle + 1) if damage == "a changed byte" else checksum
        content[place] = bytes(byte ^ 0xFF for byte in content[place])
    (tmp_path / "x.nii.gz").write_bytes(content)
    with pytest.raises(ImageError, match="damaged or truncated gzip"):
        read_voxels(tmp_path / "x.nii.gz")


def test_a_slope_is_what_every_reader_sees(tmp_path: Path) -> None:
    sitk.WriteImage(sitk.GetImageFromArray(ARRAY[:3, :4, :5]), str(tmp_path / "x.nii"))
    set_slope(tmp_path / "x.nii", 0.25)
    scaled = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "x.nii")))
    np.testing.assert_array_equal(scaled, 0.25 * ARRAY[:3, :4, :5])
