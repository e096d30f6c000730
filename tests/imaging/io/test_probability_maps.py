from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from moe_pipeline.errors import ImageError
from moe_pipeline.imaging.geometry import Geometry
from moe_pipeline.imaging.io.files import read_geometry, read_volume
from moe_pipeline.imaging.io.probability_maps import write_fractions
from moe_pipeline.imaging.volume import Volume

NATIVE = Geometry((5, 7, 4), (1.0, 2.0, 3.0), (9.0, -4.0, 2.0), (-1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 1.0, 0.0))


def map_on_grid() -> Volume:
    canonical = NATIVE.canonical()
    values = np.arange(np.prod(canonical.shape), dtype=np.uint8).reshape(canonical.shape)
    values[0, 0, 0], values[-1, -1, -1] = 255, 0
    return Volume(values, canonical)


def test_every_reader_sees_fractions_on_the_images_grid(tmp_path: Path) -> None:
    path = tmp_path / "map.nii.gz"
    volume = map_on_grid()
    write_fractions(volume, path, NATIVE)
    assert not read_geometry(path).differences(NATIVE)
    assert np.allclose(read_volume(path).array, volume.array / 255, atol=1e-6)
    by_itk = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
    assert by_itk.max() == pytest.approx(1.0)
    assert by_itk.shape == (4, 7, 5)
    assert [file.name for file in tmp_path.iterdir()] == ["map.nii.gz"]


def test_other_formats_and_types_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"ends in \.nii\.gz"):
        write_fractions(map_on_grid(), tmp_path / "map.nrrd", NATIVE)
    volume = map_on_grid()
    with pytest.raises(TypeError, match="uint8, got float32"):
        write_fractions(Volume(volume.array.astype(np.float32), volume.geometry), tmp_path / "map.nii.gz", NATIVE)
    assert not list(tmp_path.iterdir())
