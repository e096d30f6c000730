import gzip
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from moe_pipeline.errors import ImageError
from moe_pipeline.imaging.io.nifti import read_voxels

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
