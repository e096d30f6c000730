import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from moe_pipeline.cli import main
from moe_pipeline.errors import PipelineError
from moe_pipeline.training.expert.session import FinetuneOptions
from moe_pipeline.training.pretrain import PretrainOptions

Run = Callable[..., tuple[int, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*arguments: str) -> tuple[int, str]:
        with pytest.raises(SystemExit) as ended:
            main([*arguments])
        captured = capsys.readouterr()
        return int(ended.value.code or 0), captured.out + captured.err

    return run


@pytest.mark.parametrize("value", ["0", "-1", "nan", "inf"])
@pytest.mark.parametrize("option", ["--learning-rate", "--max-minutes"])
@pytest.mark.parametrize("command", [("finetune", "1"), ("pretrain",)])
def test_what_is_no_number_above_zero_is_wrong_usage(
    run: Run, command: tuple[str, ...], option: str, value: str
) -> None:
    code, text = run(*command, option, value)
    assert code == 2
    assert option in text
    assert f"must be a number above 0, got {value}" in " ".join(text.replace("│", " ").split())


@pytest.mark.parametrize("arguments", [("--epochs", "0"), ("--patience", "0"), ("--devices", "0"), ("--epochs", "nan")])
def test_counts_start_at_one(run: Run, arguments: tuple[str, str]) -> None:
    code, text = run("finetune", "1", *arguments)
    assert code == 2
    assert arguments[0] in text


def with_one(option: str, value: float) -> dict[str, Any]:
    return {option: value}


@pytest.mark.parametrize("option", ["epochs", "max_minutes", "patience", "learning_rate", "devices"])
def test_python_is_told_the_same(option: str) -> None:
    for value in (0, -1, float("nan")):
        with pytest.raises(PipelineError, match=f"--{option.replace('_', '-')} must be a number above 0, got"):
            FinetuneOptions(**with_one(option, value))
    assert getattr(FinetuneOptions(**with_one(option, 1)), option) == 1


@pytest.mark.parametrize("option", ["max_minutes", "steps", "learning_rate"])
def test_pretraining_has_the_same_limits(option: str) -> None:
    with pytest.raises(PipelineError, match=f"--{option.replace('_', '-')} must be a number above 0, got 0"):
        PretrainOptions(**with_one(option, 0))


def test_a_logger_that_is_not_installed_is_named_before_anything_is_trained(
    run: Run, tmp_path: Path, make_phantom_dataset: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    folder = make_phantom_dataset(tmp_path / "Dataset001_P", 2)
    code, text = run("finetune", str(folder), "--logger", "tensorboard", "--workspace", str(tmp_path / "ws"))
    assert code == 1
    assert "moe-pipeline[tensorboard]" in text
    assert not (tmp_path / "ws" / "experts").exists()


def test_an_unknown_logger_is_wrong_usage(run: Run) -> None:
    code, text = run("finetune", "1", "--logger", "abacus")
    assert code == 2
    assert "abacus" in text
