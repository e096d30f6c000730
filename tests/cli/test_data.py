import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import SimpleITK as sitk

from moe_pipeline.cli import main
from moe_pipeline.cli.common import FIXES
from moe_pipeline.records import check as records

MakeDataset = Callable[..., Path]
Run = Callable[..., tuple[int, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    def run(*arguments: str) -> tuple[int, str]:
        with pytest.raises(SystemExit) as ended:
            main([*arguments, "--workspace", str(tmp_path / "ws")])
        captured = capsys.readouterr()
        return int(ended.value.code or 0), captured.out + captured.err

    return run


@pytest.fixture
def folder(tmp_path: Path, make_phantom_dataset: MakeDataset) -> Path:
    return make_phantom_dataset(tmp_path / "Dataset001_P", 2)


def shift_label(folder: Path, mm: float) -> None:
    path = folder / "labelsTr" / "p000.nii.gz"
    read = sitk.ReadImage(str(path))
    x, y, z = read.GetOrigin()
    read.SetOrigin((x + mm, y, z))
    sitk.WriteImage(read, str(path))


def test_a_check_ends_with_1_if_a_case_has_an_error(folder: Path, tmp_path: Path, run: Run) -> None:
    code, text = run("convert", str(folder), "--check")
    assert (code, "nothing wrong" in text) == (0, True)
    shift_label(folder, 9)
    code, text = run("convert", str(folder), "--check")
    assert code == 1
    assert "p000  error     geometry  resample-labels  p000.nii.gz: image and label lie on different grids" in text
    assert (tmp_path / "ws" / "checks" / "Dataset001_P" / "check.json").is_file()
    assert not (tmp_path / "ws" / "raw").exists()


def test_fix_stands_alone_or_with_names(folder: Path, run: Run) -> None:
    shift_label(folder, 0.05)
    code, text = run("convert", str(folder), "--out", "Dataset002_Q")
    assert (code, "p000: p000.nii.gz: image and label lie on different grids" in text) == (1, True)
    code, text = run("convert", "--fix", str(folder), "--out", "Dataset002_Q")
    assert (code, "p000: label: header set to that of the image" in text) == (0, True)
    shift_label(folder, 5)
    assert run("convert", str(folder), "--out", "Dataset002_Q", "--fix")[0] == 1
    code, text = run("convert", str(folder), "--fix", "resample-labels", "--fix", "--out", "Dataset002_Q")
    assert (code, "p000: label resampled from 20x26x14" in text) == (0, True)


def test_a_fix_that_finds_nothing_says_so(folder: Path, run: Run) -> None:
    assert "nothing was repaired" in run("convert", str(folder), "--out", "Dataset002_Q", "--fix")[1]
    assert run("convert", str(folder), "--fix", "magic")[0] == 2


def test_the_command_line_knows_every_fix() -> None:
    assert FIXES == records.FIXES


def test_patients_are_found_by_a_pattern(folder: Path, run: Run) -> None:
    (folder / "imagesTs").mkdir()
    image = folder / "imagesTr" / "p001_0000.nii.gz"
    shutil.move(image, folder / "imagesTs" / "p00_other_0000.nii.gz")
    (folder / "labelsTr" / "p001.nii.gz").unlink()
    assert run("convert", str(folder), "--check")[0] == 0
    code, text = run("convert", str(folder), "--check", "--patients", "p00")
    assert (code, "patient p00 is on both sides of training and test cases" in text) == (1, True)
