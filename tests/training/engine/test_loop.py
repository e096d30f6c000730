import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from moe_pipeline.errors import CheckpointError, StaleCacheError
from moe_pipeline.training.engine.loop import InterruptedRunError, LoopSettings, run_loop

CPU = torch.device("cpu")
SETTINGS = LoopSettings(steps=12, learning_rate=0.05, warmup_steps=2, validate_every=3)


class Line:
    """Fits y = 2x + 1; the intercept can be frozen."""

    def __init__(self, interrupt_at: int | None = None) -> None:
        torch.manual_seed(0)
        self.module: nn.Linear | nn.Conv3d = nn.Linear(1, 1)
        self.identity = "line"
        self.interrupt_at = interrupt_at

    def loss(self, step: int) -> Tensor:
        if step == self.interrupt_at:
            signal.raise_signal(signal.SIGINT)
        x = torch.rand(8, 1, generator=torch.Generator().manual_seed(step))
        return (self.module(x) - 2 * x - 1).square().mean()

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        x = torch.linspace(0, 1, 5)[:, None]
        return {"score": -float((self.module(x) - 2 * x - 1).square().mean())}


def test_training_improves_and_keeps_the_best(tmp_path: Path) -> None:
    task = Line()
    before = task.validate()["score"]
    result = run_loop(task, SETTINGS, tmp_path, CPU)
    assert result.stopped_by == "steps"
    assert result.steps == 12
    assert result.best_score > before
    rows = (tmp_path / "log.csv").read_text().splitlines()
    assert rows[0] == "step,seconds,loss,score"
    assert [row.split(",")[0] for row in rows[1:]] == ["3", "6", "9", "12"]


class Blur(Line):
    """Fits a convolution to twice its input."""

    def __init__(self, interrupt_at: int | None = None) -> None:
        super().__init__(interrupt_at)
        self.module = nn.Conv3d(1, 2, 3, padding=1)

    def loss(self, step: int) -> Tensor:
        if step == self.interrupt_at:
            signal.raise_signal(signal.SIGINT)
        x = torch.rand(1, 1, 4, 4, 4, generator=torch.Generator().manual_seed(step))
        return (self.module(x) - 2 * x).square().mean()

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        return {"score": -float(self.loss(99))}


def test_kernels_have_their_own_rate_and_resume_too(tmp_path: Path) -> None:
    settings = replace(SETTINGS, kernel_rate=0.1)
    whole, again, by_adamw = Blur(), Blur(), Blur()
    run_loop(whole, settings, tmp_path / "whole", CPU)
    with pytest.raises(InterruptedRunError):
        run_loop(Blur(interrupt_at=5), settings, tmp_path / "parts", CPU)
    run_loop(again, settings, tmp_path / "parts", CPU)
    run_loop(by_adamw, SETTINGS, tmp_path / "adamw", CPU)
    for name, tensor in whole.module.state_dict().items():
        assert torch.equal(tensor, again.module.state_dict()[name])
    assert not torch.equal(whole.module.weight, by_adamw.module.weight)
    with pytest.raises(CheckpointError, match="2 optimizers, expected 1"):
        run_loop(Blur(), SETTINGS, tmp_path / "parts", CPU)


@pytest.mark.parametrize("interrupt_at", [1, 5, 8])
def test_interrupted_and_resumed_equals_undisturbed(tmp_path: Path, interrupt_at: int) -> None:
    whole = Line()
    expected = run_loop(whole, SETTINGS, tmp_path / "whole", CPU)
    with pytest.raises(InterruptedRunError, match=f"interrupted after step {interrupt_at + 1}; run the same command"):
        run_loop(Line(interrupt_at), SETTINGS, tmp_path / "parts", CPU)
    again = Line()
    result = run_loop(again, SETTINGS, tmp_path / "parts", CPU)
    assert result.stopped_by == "steps"
    for name, tensor in whole.module.state_dict().items():
        assert torch.equal(tensor, again.module.state_dict()[name])
    for name, tensor in expected.best.items():
        assert torch.equal(tensor, result.best[name])


def test_frozen_parameters_stay_bit_equal_and_out_of_the_result(tmp_path: Path) -> None:
    task = Line()
    assert task.module.bias is not None
    task.module.bias.requires_grad_(False)
    bias, weight = task.module.bias.clone(), task.module.weight.clone()
    result = run_loop(task, SETTINGS, tmp_path, CPU)
    assert torch.equal(task.module.bias, bias)
    assert not torch.equal(task.module.weight, weight)
    assert set(result.best) == {"weight"}


def test_patience_and_time_end_a_run(tmp_path: Path) -> None:
    stuck = Line()
    stuck.validate = lambda: {"score": 0.0}  # type: ignore[method-assign]
    result = run_loop(stuck, LoopSettings(99, 0.1, 1, 1, patience=3), tmp_path / "a", CPU)
    assert (result.stopped_by, result.steps) == ("patience", 4)
    hurried = run_loop(Line(), LoopSettings(10**9, 0.1, 1, 10**9, max_minutes=0.002), tmp_path / "b", CPU)
    assert hurried.stopped_by == "time"
    assert hurried.best_score > float("-inf")
    assert [row["step"] for row in hurried.rows] == [hurried.steps]


def test_the_weights_at_the_time_limit_are_validated_once(tmp_path: Path) -> None:
    limited = LoopSettings(10**9, 0.1, 1, 7, max_minutes=0.002)
    first = run_loop(Line(), limited, tmp_path, CPU)
    assert first.rows[-1]["step"] == first.steps
    again = run_loop(Line(), limited, tmp_path, CPU)
    assert again.rows == first.rows


def test_checkpoint_of_another_task_is_refused(tmp_path: Path) -> None:
    run_loop(Line(), SETTINGS, tmp_path, CPU)
    other = Line()
    other.identity = "another"
    with pytest.raises(StaleCacheError, match=r"another task or on other data \(line.*now another.*--overwrite"):
        run_loop(other, SETTINGS, tmp_path, CPU)


def test_settings_that_do_not_fit_the_checkpoint_are_named(tmp_path: Path) -> None:
    run_loop(Line(), SETTINGS, tmp_path, CPU)
    wanted = r"other settings: steps=12, now steps=20, precision=fp32, now precision=bf16. Give.*--overwrite"
    with pytest.raises(StaleCacheError, match=wanted):
        run_loop(Line(), replace(SETTINGS, steps=20, precision="bf16"), tmp_path, CPU)
