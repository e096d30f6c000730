"""Two processes on the CPU learn what one learns."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from moe_pipeline.records.experts import ExpertCard
from moe_pipeline.training.expert.finetune import FinetuneOptions, finetune
from moe_pipeline.weights.tensors import load_tensors
from moe_pipeline.workspace import Workspace
from tests.phantoms.foundations import load_sam

NAME = "Dataset001_One"


@pytest.fixture
def planned(tmp_path: Path, make_planned_workspace: Callable[..., Workspace]) -> Workspace:
    """With three prompts per step, which two processes cannot share evenly, and steps enough for second clicks."""
    small = {"crops_per_case": 2, "copies_per_case": 1, "steps_per_epoch": 6, "batch_size": 3}
    return make_planned_workspace(tmp_path / "ws", NAME, 6, **small)


def test_two_processes_learn_what_one_learns(planned: Workspace) -> None:
    arguments = ("finetune", NAME, "--epochs", "2", "--no-click-proposer", "--devices", "2", "--precision", "fp32")
    shared = subprocess.run(
        [sys.executable, "-m", "moe_pipeline", *arguments, "--workspace", str(planned.root)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert shared.returncode == 0, shared.stderr
    assert shared.stdout.count("best at step") == 1  # one process speaks
    folder = planned.expert(NAME)
    together, of_two = load_tensors(folder / "expert.safetensors"), ExpertCard.load(folder / "expert.json")
    assert of_two.settings["devices"] == 2
    options = FinetuneOptions(epochs=2, precision="fp32", overwrite=True, click_proposer=None)
    alone = finetune(planned, planned.raw(NAME), options)
    expected = load_tensors(folder / "expert.safetensors")
    start = load_sam("tiny", weights_root=planned.weights).mask_decoder.state_dict()
    moved = distance(expected, start)
    assert moved > 0
    assert distance(together, expected) < 0.01 * moved  # Adam makes much of gradients that are nothing but rounding
    for name, value in alone.validation.items():
        assert of_two.validation[name] == pytest.approx(value, abs=0.01)


def distance(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    return sum(float((tensor - other[name]).square().sum()) for name, tensor in one.items()) ** 0.5
