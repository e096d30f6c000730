from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from dataset_conversion.convert import convert
from moe_pipeline.imaging.io.formats import fault_of_format, files_read, has_image_suffix

HEADERS = {
    "one.mhd": ("NDims = 3\nElementDataFile = one.raw\n", ["one.raw"]),
    "local.mhd": ("NDims = 3\nElementDataFile = LOCAL\n", []),
    "list.mhd": ("NDims = 3\nElementDataFile = LIST\na.raw\nb.raw\n", ["a.raw", "b.raw"]),
    "pattern.mhd": ("ElementDataFile = s%02d.raw 1 3 1\n", ["s01.raw", "s02.raw", "s03.raw"]),
    "apart.nrrd": ("NRRD0004\nencoding: raw\ndata file: x.raw\n\n", ["x.raw"]),
    "whole.nrrd": ("NRRD0004\nencoding: raw\n\ndata file: no.raw\n", []),
}


@pytest.mark.parametrize("name", HEADERS)
def test_files_that_hold_the_voxels_are_known(tmp_path: Path, name: str) -> None:
    text, expected = HEADERS[name]
    (tmp_path / name).write_text(text)
    assert files_read(tmp_path / name) == (tmp_path / name, *(tmp_path / file for file in expected))


def test_an_image_whose_voxels_changed_in_a_file_of_their_own_is_made_anew(tmp_path: Path) -> None:
    source = tmp_path / "in"
    for folder, value in (("images", 50), ("labels", 1)):
        (source / folder).mkdir(parents=True)
        array = np.zeros((4, 5, 6), np.uint8)
        array[1:3, 1:3, 1:3] = value
        sitk.WriteImage(sitk.GetImageFromArray(array), str(source / folder / "a.mhd"))
    report = convert(source, tmp_path / "out")
    assert report.accounting[1].used == 4  # two headers, two files of voxels
    assert [row.status for row in convert(source, tmp_path / "out").rows] == ["present"]
    raw = source / "labels" / "a.raw"
    raw.write_bytes(raw.read_bytes()[::-1])
    assert [row.status for row in convert(source, tmp_path / "out").rows] == ["converted"]
    written = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "out" / "labelsTr" / "a.nii.gz")))
    assert written[2:4, 3:5, 4:6].max() == 1


def test_formats_that_are_not_read_are_told_from_those_that_are_and_from_other_files() -> None:
    for name in ("a.nii.gz", "a.NII", "a.nrrd", "a.mha", "a.mhd"):
        assert has_image_suffix(Path(name))
        assert fault_of_format(Path(name)) == ""
    for name in ("a.mgz", "a.img", "a.TIF", "a.nii.bz2", "a.zip", "a.nhdr"):
        assert not has_image_suffix(Path(name))
        assert fault_of_format(Path(name)).startswith(Path(name).suffix.lower() if name != "a.nii.bz2" else ".nii.bz2")
    assert fault_of_format(Path("a.txt")) == ""
