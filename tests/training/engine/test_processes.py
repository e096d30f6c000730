import pytest
import torch

from moe_pipeline.errors import PipelineError
from moe_pipeline.training.engine.processes import Processes, open_processes

CPU = torch.device("cpu")


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
