"""Ctrl-C is answered, and the same command goes on."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from moe_pipeline.records.prompts import ObjectPrompt, PromptFile

N_CASES = 12
_LIMIT_SECONDS = 240
_LISTENING = """
import signal, sys
from moe_pipeline.cli import main
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell ignores it for what it starts in the background
main(sys.argv[1:])
"""


def test_ctrl_c_in_predict_says_what_is_kept_and_how_to_go_on(tmp_path: Path) -> None:
    prompt = ObjectPrompt(class_id=1, points=((10, 10, 10),), labels=(1,))
    (tmp_path / "images").mkdir()
    for number in range(N_CASES):
        image = np.random.default_rng(number).normal(100, 20, (20, 20, 20)).astype(np.float32)
        sitk.WriteImage(sitk.GetImageFromArray(image), str(tmp_path / "images" / f"c{number:02d}.nii.gz"))
    cases = {f"c{number:02d}": (prompt,) for number in range(N_CASES)}
    PromptFile(space="voxel_xyz", cases=cases).save(tmp_path / "p.json")
    words = ["predict", "-i", "images", "-o", "out", "--prompts", "p.json", "--foundation", "nano"]
    command = [sys.executable, "-c", _LISTENING, *words]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True) as running:
        until = time.monotonic() + _LIMIT_SECONDS
        while time.monotonic() < until and not list((tmp_path / "out").glob("c*.nii.gz")) and running.poll() is None:
            time.sleep(0.02)
        running.send_signal(signal.SIGINT)
        _, text = running.communicate(timeout=_LIMIT_SECONDS)
    n_written = len(list((tmp_path / "out").glob("c*.nii.gz")))
    assert running.returncode == 1
    assert f"{n_written} of {N_CASES} cases are finished and kept; the same command goes on from there" in text
    assert "Traceback" not in text
