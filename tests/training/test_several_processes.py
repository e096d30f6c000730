"""Two processes on the CPU learn what one learns, whoever has started them, and only the first one writes."""

import os
import shutil
import signal
import socket
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
COMMAND = ["finetune", NAME, "--epochs", "2", "--no-click-proposer", "--precision", "fp32"]
OF_SLURM = {
    "SLURM_JOB_ID": "1234",
    "SLURM_JOB_NAME": "interactive",  # as within salloc
    "SLURM_STEP_ID": "0",
    "SLURM_NNODES": "1",
    "SLURM_NODEID": "0",
    "SLURM_NODELIST": "localhost",
    "SLURM_NTASKS": "2",
}
RANK = """
import os, signal, sys
from moe_pipeline.cli import main
from moe_pipeline.training.engine import loop

root, told, is_lost, *words = sys.argv[1:]
save = loop.save_run

def saved(*arguments):
    save(*arguments)
    os.kill(os.getpid(), signal.SIGKILL)

def seen(event, arguments):
    path = arguments[event == "os.rename"] if event in ("open", "os.remove", "os.rename") else ""
    is_read = event == "open" and not arguments[2] & (os.O_WRONLY | os.O_RDWR)
    if str(path).startswith(root) and not is_read:
        os.write(stream, f"{event} {path}\\n".encode())

stream = os.open(told, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
sys.addaudithook(seen)
if is_lost == "lost":
    loop.save_run = saved
main([*words, "--workspace", root])
"""


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory, make_planned_workspace: Callable[..., Workspace]) -> Workspace:
    """With three prompts per step, which two processes cannot share evenly, and steps enough for second clicks."""
    small = {"crops_per_case": 2, "copies_per_case": 1, "steps_per_epoch": 6, "batch_size": 3}
    return make_planned_workspace(tmp_path_factory.mktemp("several") / "ws", NAME, 6, **small)


@pytest.fixture(scope="module")
def alone(planned: Workspace) -> Path:
    """Folder of what one process has learnt, which is in nobody's way."""
    finetune(planned, planned.raw(NAME), FinetuneOptions(epochs=2, precision="fp32", click_proposer=None))
    return planned.expert(NAME).rename(planned.root / "alone")


def begun(words: list[str], **environment: str) -> subprocess.Popen[str]:
    given = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    return subprocess.Popen([sys.executable, *words], env=given, stdout=-1, stderr=-1, text=True)


def ended(processes: list[subprocess.Popen[str]]) -> tuple[list[int], str, str]:
    """Exit codes, and what was said to standard output and to standard error."""
    said = [process.communicate(timeout=300) for process in processes]
    output, errors = zip(*said, strict=True)
    return [process.returncode for process in processes], "".join(output), "".join(errors)


def as_srun_does(planned: Workspace, told: Path, which: str = "") -> tuple[list[int], str, str]:
    """Two tasks on one node, started as srun starts them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        common = {**OF_SLURM, "MASTER_PORT": str(free.getsockname()[1])}
    return ended(
        [
            begun(
                ["-c", RANK, str(planned.root), str(told / str(rank)), "" if rank else which, *COMMAND],
                **common,
                SLURM_PROCID=str(rank),
                SLURM_LOCALID=str(rank),
            )
            for rank in range(2)
        ]
    )


def test_two_processes_learn_what_one_learns(planned: Workspace, alone: Path) -> None:
    words = ["-m", "moe_pipeline", *COMMAND, "--devices", "2", "--workspace", str(planned.root)]
    codes, said, errors = ended([begun(words)])
    assert codes == [0], errors
    assert said.count("best at step") == 1  # one process speaks
    assert_alike(planned, alone)


def test_two_tasks_of_srun_learn_what_one_process_learns_although_one_is_lost(
    planned: Workspace, alone: Path, tmp_path: Path
) -> None:
    folder = planned.expert(NAME)
    shutil.rmtree(folder, ignore_errors=True)
    codes, _, errors = as_srun_does(planned, tmp_path, "lost")
    assert codes == [-signal.SIGKILL, 1], errors
    assert "error: another process of this training has ended" in errors
    assert not (folder / "expert.json").exists()
    codes, said, errors = as_srun_does(planned, tmp_path)
    assert codes == [0, 0], errors
    assert said.count("best at step") == 1
    assert_alike(planned, alone)
    written = [(tmp_path / str(rank)).read_text().splitlines() for rank in range(2)]
    assert sum(f"os.rename {folder / 'checkpoint.safetensors'}" == line for line in written[0]) == 2  # one per epoch
    assert written[1] == []


def assert_alike(planned: Workspace, alone: Path) -> None:
    folder = planned.expert(NAME)
    start = load_sam("tiny", weights_root=planned.weights).mask_decoder.state_dict()
    for together, expected in zip(learnt(folder), learnt(alone), strict=True):
        moved = distance(expected, start)
        assert moved > 0
        assert distance(together, expected) < 0.01 * moved  # Adam makes much of gradients that are nothing but rounding
    of_two, of_one = (ExpertCard.load(path / "expert.json") for path in (folder, alone))
    assert (of_two.settings["devices"], of_one.settings["devices"]) == (2, 1)
    assert of_two.validation == pytest.approx(of_one.validation, abs=0.01)


def learnt(folder: Path) -> list[dict[str, torch.Tensor]]:
    """Weights of the best step, and of the last."""
    part, last = "tensor/model.", load_tensors(folder / "checkpoint.safetensors")
    best = load_tensors(folder / "expert.safetensors")
    return [best, {name.removeprefix(part): tensor for name, tensor in last.items() if name.startswith(part)}]


def distance(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    return sum(float((tensor - other[name]).square().sum()) for name, tensor in one.items()) ** 0.5
