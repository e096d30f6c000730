import pytest
import torch

from moe_pipeline.errors import PipelineError
from moe_pipeline.weights.device import open_device


def test_what_is_there_is_opened() -> None:
    for given in ("cpu", torch.device("cpu"), "cpu:0"):
        assert open_device(given).type == "cpu"


@pytest.mark.parametrize("name", ["gpu", "", "cuda:x", "cuda:-1"])
def test_a_word_that_names_no_device_is_refused(name: str) -> None:
    with pytest.raises(PipelineError, match=f"no device '{name}'; there are: cpu"):
        open_device(name)


@pytest.mark.parametrize("name", ["cuda:99", "xpu", "meta"])
def test_an_absent_device_is_refused(name: str) -> None:
    with pytest.raises(PipelineError, match=f"device {name} was asked for.* sees only: cpu"):
        open_device(name)


@pytest.mark.parametrize("n_gpus", [0, 2])
def test_gpus_are_counted(monkeypatch: pytest.MonkeyPatch, n_gpus: int) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: n_gpus)
    for name, needed in (("cuda", 1), ("cuda:0", 1), ("cuda:1", 2), ("cuda:2", 3)):
        if n_gpus >= needed:
            assert open_device(name) == torch.device(name)
        else:
            with pytest.raises(PipelineError, match=f"device {name} was asked for"):
                open_device(name)
