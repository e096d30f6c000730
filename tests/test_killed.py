"""Processes killed without warning in the middle of each stage: the same command again ends as if nothing had been."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from moe_pipeline.files import sha256_file
from moe_pipeline.workspace import Workspace

NAME = "Dataset001_One"
_OPEN = """
import sys
from pathlib import Path
from moe_pipeline.workspace import Workspace
place = Workspace(Path(sys.argv[1]))
folder = place.raw(sys.argv[2])
"""
FINETUNE = f"""{_OPEN}
from moe_pipeline.training.expert.finetune import FinetuneOptions, finetune
from moe_pipeline.training.click_proposer.train import ClickProposerSettings
click_proposer = ClickProposerSettings(steps=60, search_crops=18, synthetic=2)
finetune(place, folder, FinetuneOptions(epochs=6, click_proposer=click_proposer))
"""
GATE = f"""{_OPEN}
from moe_pipeline.training.claims.learn_claims import ClaimSettings
from moe_pipeline.training.gate.gate_run import GateOptions
from moe_pipeline.training.gate.train_gate import train_gate
claims = ClaimSettings(risk=0.5, confidence=0.5, own=4, background=2, foreign=1, synthetic=2, named=2)
train_gate(place, [folder], [], GateOptions(synthetic=12, claims=claims))
"""


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory, make_planned_workspace: Callable[..., Workspace]) -> Workspace:
    small = {"crops_per_case": 2, "copies_per_case": 5, "steps_per_epoch": 4, "batch_size": 4}
    return make_planned_workspace(tmp_path_factory.mktemp("planned"), NAME, 6, **small)


@pytest.fixture(scope="module")
def undisturbed(planned: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    place = copy_of(planned, tmp_path_factory.mktemp("undisturbed"))
    assert start(place, FINETUNE + GATE).wait() == 0
    return place


def copy_of(place: Workspace, folder: Path) -> Workspace:
    shutil.copytree(place.root, folder / "ws", symlinks=True)
    return Workspace(folder / "ws")


def start(place: Workspace, program: str) -> subprocess.Popen[bytes]:
    arguments = [sys.executable, "-c", program, str(place.root), NAME]
    return subprocess.Popen(arguments, env={**os.environ, "OMP_NUM_THREADS": "1"})


def kill_when(sight: Callable[[], bool], place: Workspace, program: str) -> None:
    """Kill a program as soon as something is seen; it must not have ended by then."""
    process = start(place, program)
    while not sight() and process.poll() is None:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "it ended before it could be killed"


def test_killed_while_encoding_training_and_training_the_click_proposer(
    planned: Workspace, undisturbed: Workspace, tmp_path: Path
) -> None:
    place = copy_of(planned, tmp_path)
    expert = place.expert(NAME)
    kill_when(lambda: len(list(place.embeddings(NAME).glob("*/crops/*.safetensors"))) > 2, place, FINETUNE)
    assert not list(place.embeddings(NAME).glob("*/manifest.json"))
    kill_when((expert / "checkpoint.safetensors").is_file, place, FINETUNE)
    assert not (expert / "expert.json").exists()
    kill_when((expert / "click_proposer" / "checkpoint.safetensors").is_file, place, FINETUNE)
    assert not (expert / "click_proposer.safetensors").exists()
    assert start(place, FINETUNE).wait() == 0
    for file in ("expert.safetensors", "click_proposer.safetensors"):
        assert sha256_file(expert / file) == sha256_file(undisturbed.expert(NAME) / file)


def test_killed_while_training_the_gate(undisturbed: Workspace, tmp_path: Path) -> None:
    place = copy_of(undisturbed, tmp_path)
    shutil.rmtree(place.model)
    shutil.rmtree(place.embeddings("synthetic"))
    kill_when(place.embeddings("synthetic").is_dir, place, GATE)
    assert not (place.model / "moe.json").exists()
    assert start(place, GATE).wait() == 0
    for file in ("gate.safetensors", "gate.json"):
        assert sha256_file(place.model / file) == sha256_file(undisturbed.model / file)
