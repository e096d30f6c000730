"""What ITK writes to the terminal by itself does not reach it; everything else does."""

import os
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from moe_pipeline.errors import PipelineError
from moe_pipeline.imaging.io.files import read_volume
from moe_pipeline.imaging.quiet import QuietLock


@pytest.mark.parametrize("ending", ["mha", "mhd", "nii", "nii.gz", "nrrd"])
def test_damaged_headers_leave_no_line_on_stderr(
    ending: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / f"a.{ending}"
    sitk.WriteImage(sitk.GetImageFromArray(np.arange(60, dtype=np.int16).reshape(3, 4, 5)), str(path))
    whole, random = path.read_bytes(), np.random.default_rng(0)
    n_refused = 0
    for _ in range(40):
        damaged = bytearray(whole)
        for place in random.integers(0, min(len(whole), 350), 4):
            damaged[place] = random.integers(0, 256)
        path.write_bytes(damaged)
        try:
            read_volume(path)
        except PipelineError:
            n_refused += 1
    assert n_refused
    assert capfd.readouterr().err == ""


def test_what_others_write_meanwhile_is_passed_on(capfd: pytest.CaptureFixture[str]) -> None:
    lock = QuietLock()
    with lock:
        os.write(2, b"MetaImage: Read: Cannot parse file\nDimSize required and not defined.\n")
        os.write(2, b"case_07 failed: truncated\n** ERROR: nifti_convert_nhdr2nim: bad dim[0]\nlast")
    assert capfd.readouterr().err == "case_07 failed: truncated\nlast"
    os.write(2, b"MetaImage: outside of the lock\n")
    assert capfd.readouterr().err == "MetaImage: outside of the lock\n"


def test_an_exception_gives_stderr_back(capfd: pytest.CaptureFixture[str]) -> None:
    lock = QuietLock()
    for _ in range(2):
        with pytest.raises(ValueError, match="x"), lock:
            raise ValueError("x")
    os.write(2, b"here\n")
    assert capfd.readouterr().err == "here\n"


def test_without_a_stderr_it_is_only_a_lock() -> None:
    kept = os.dup(2)
    os.close(2)
    try:
        with QuietLock():
            pass
    finally:
        os.dup2(kept, 2)
        os.close(kept)
