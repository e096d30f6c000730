"""Processes that train together: one, several of this machine, or those that srun or torchrun have started."""

import os
import socket
import subprocess
import sys

import pytest
import torch

from moe_pipeline.errors import PipelineError
from moe_pipeline.training.engine.processes import Processes, open_processes, started

CPU = torch.device("cpu")
FOUR_TASKS = {"SLURM_NTASKS": "4", "SLURM_NNODES": "2"}
TASK = """
import torch
from moe_pipeline.training.engine.processes import open_processes
processes = open_processes("cpu")
weights = torch.arange(6.0).reshape(3, 2).requires_grad_()
batch = torch.randn(8, 3, generator=torch.Generator().manual_seed(0))
def gradient(rows):
    (found,) = torch.autograd.grad((rows @ weights).tanh().square().mean(), weights)
    return found
shared, whole = gradient(batch[processes.part_of(8)]), gradient(batch)
alone = (shared - whole).abs().max().item()
processes.average([shared])
assert alone > 1e-3, alone
assert (shared - whole).abs().max() < 1e-6
import os
with open(os.environ["TOLD"], "a") as stream:
    stream.write(f"rank {processes.rank} of {processes.size}\\n")
"""


def test_one_process_needs_nobody() -> None:
    alone = open_processes("cpu")
    tensor = torch.tensor([1.0, 2.0])
    alone.average([tensor])
    assert (alone.first, alone.size, alone.fabric) == (True, 1, None)
    assert tensor.tolist() == [1.0, 2.0]
    assert alone.from_first(lambda: 7) == 7
    assert alone.part_of(5) == slice(0, 5)


@pytest.mark.parametrize("count", [3, 4, 8])
def test_every_prompt_has_one_process(count: int) -> None:
    parts = [Processes(CPU, rank, 3).part_of(count) for rank in range(3)]
    assert [number for part in parts for number in range(count)[part]] == list(range(count))
    assert max(part.stop - part.start for part in parts) - min(part.stop - part.start for part in parts) <= 1


def test_more_processes_than_prompts_are_refused() -> None:
    with pytest.raises(PipelineError, match="2 prompts per step cannot be shared by 3 processes"):
        Processes(CPU, 0, 3).part_of(2)


def test_processes_need_devices_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("moe_pipeline.training.engine.processes.open_device", torch.device)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    with pytest.raises(PipelineError, match=r"2 processes cannot share cuda:0; give --device cuda"):
        open_processes("cuda:0", 2)
    with pytest.raises(PipelineError, match="2 processes were asked for, but there are 1 GPUs"):
        open_processes("cuda", 2)


def test_two_nodes_of_slurm_have_the_gradients_of_one_process_with_the_whole_batch(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    told = tmp_path_factory.mktemp("told") / "told"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    of_slurm = {"SLURM_JOB_ID": "1234", "SLURM_JOB_NAME": "moe", "SLURM_NNODES": "2", "SLURM_NTASKS": "2"}
    of_slurm |= {"SLURM_STEP_ID": "0", "SLURM_NODELIST": "localhost", "SLURM_LOCALID": "0"}
    common = {**os.environ, **of_slurm, "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1", "TOLD": str(told)}
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", TASK],
            env={**common, "SLURM_PROCID": str(rank), "SLURM_NODEID": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    said = [rank.communicate(timeout=120)[1] for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0, 0], "\n".join(said)
    assert sorted(told.read_text().splitlines()) == ["rank 0 of 2", "rank 1 of 2"]


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, (1, 1)),
        ({"WORLD_SIZE": "4"}, (1, 1)),  # anybody's
        ({"TORCHELASTIC_RUN_ID": "none", "WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2"}, (2, 2)),
        (FOUR_TASKS, (1, 1)),  # of salloc
        (FOUR_TASKS | {"SLURM_PROCID": "0"}, (1, 1)),  # of a batch script
        (FOUR_TASKS | {"SLURM_PROCID": "0", "SLURM_STEP_ID": "4294967290"}, (1, 1)),  # a shell on a node
        (FOUR_TASKS | {"SLURM_PROCID": "0", "SLURM_STEP_ID": "0"}, (2, 2)),
        (FOUR_TASKS | {"SLURM_PROCID": "0", "SLURM_STEP_ID": "1", "SLURM_NTASKS": "1", "SLURM_NNODES": "1"}, (1, 1)),
    ],
)
def test_who_was_started_is_read_from_the_environment(environment: dict[str, str], expected: tuple[int, int]) -> None:
    assert started(environment) == expected


def test_nodes_with_different_numbers_of_processes_are_refused() -> None:
    with pytest.raises(PipelineError, match="3 processes on 2 nodes: expected as many on each"):
        started(FOUR_TASKS | {"SLURM_NTASKS": "3", "SLURM_PROCID": "0", "SLURM_STEP_ID": "0"})
