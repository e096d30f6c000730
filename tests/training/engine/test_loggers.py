import re
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

from moe_pipeline.errors import PipelineError
from moe_pipeline.training.engine.loggers import CsvLogger, CurveLogger, TensorBoardLogger, named_loggers
from moe_pipeline.training.engine.loop import InterruptedRunError, LoopSettings, run_loop

CPU = torch.device("cpu")
SETTINGS = LoopSettings(steps=12, learning_rate=0.05, warmup_steps=2, validate_every=3)
PAGE = Path(__file__).parents[3] / "docs" / "python.md"


class Point:
    """Moves one number to 1."""

    identity = "point"

    def __init__(self, interrupt_at: int | None = None) -> None:
        self.module = nn.Linear(1, 1)
        self.interrupt_at = interrupt_at

    def loss(self, step: int) -> Tensor:
        if step == self.interrupt_at:
            signal.raise_signal(signal.SIGINT)
        return (self.module.bias - 1).square().mean()

    def validate(self) -> dict[str, float]:
        return {"score": -float((self.module.bias - 1).abs())}


class Noted:
    """A logger that remembers."""

    def __init__(self) -> None:
        self.told: list[tuple[int, dict[str, float]]] = []
        self.closed = 0

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self.told.append((step, dict(values)))

    def close(self) -> None:
        self.closed += 1


class Writer:
    """Stands in for TensorBoard's; all that any of them was told."""

    opened: ClassVar[list[tuple[str, int | None]]] = []
    points: ClassVar[list[tuple[str, float, int]]] = []

    def __init__(self, folder: str, purge_step: int | None = None) -> None:
        self.opened.append((folder, purge_step))

    def add_scalar(self, name: str, value: float, step: int) -> None:
        self.points.append((name, value, step))

    def flush(self) -> None: ...

    def close(self) -> None: ...


@pytest.fixture
def tensorboard(monkeypatch: pytest.MonkeyPatch) -> type[Writer]:
    module = ModuleType("torch.utils.tensorboard")
    module.SummaryWriter = Writer  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    monkeypatch.setattr(Writer, "opened", [])
    monkeypatch.setattr(Writer, "points", [])
    return Writer


def test_a_logger_is_told_what_the_table_says_and_closed(tmp_path: Path) -> None:
    noted = Noted()
    result = run_loop(Point(), SETTINGS, tmp_path, CPU, loggers=[noted])
    assert [{"step": step, **values} for step, values in noted.told] == result.rows
    assert noted.closed == 1
    lines = (tmp_path / "log.csv").read_text().splitlines()
    assert lines[0].split(",") == list(result.rows[0])
    assert [[float(cell) for cell in line.split(",")] for line in lines[1:]] == [
        list(row.values()) for row in result.rows
    ]
    assert (tmp_path / "curve.png").is_file()


def test_going_on_tells_nothing_twice(tmp_path: Path) -> None:
    noted = Noted()
    with pytest.raises(InterruptedRunError):
        run_loop(Point(interrupt_at=7), SETTINGS, tmp_path, CPU, loggers=[noted])
    assert noted.closed == 1
    run_loop(Point(), SETTINGS, tmp_path, CPU, loggers=[noted])
    assert [step for step, _ in noted.told] == [3, 6, 9, 12]
    assert [line.split(",")[0] for line in (tmp_path / "log.csv").read_text().splitlines()] == [
        *("step", "3", "6", "9", "12")
    ]
    run_loop(Point(), SETTINGS, tmp_path, CPU, loggers=[noted])  # already done
    assert len(noted.told) == 4
    assert len((tmp_path / "log.csv").read_text().splitlines()) == 5


def test_a_run_from_the_start_replaces_the_table_of_an_earlier_one(tmp_path: Path) -> None:
    for logger in (CsvLogger(tmp_path / "log.csv"), CsvLogger(tmp_path / "log.csv")):
        logger.log(5, {"loss": 1.5, "score": 0.25})
    assert (tmp_path / "log.csv").read_text() == "step,loss,score\n5,1.5,0.25\n"


def test_the_curve_marks_the_first_of_the_best_and_is_drawn_now_and_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    marked: list[tuple[float, int]] = []
    now = [0.0]
    monkeypatch.setattr(
        "moe_pipeline.training.engine.loggers.draw_learning_curve",
        lambda _rows, best, _path: marked.append((now[0], best)),
    )
    logger = CurveLogger(tmp_path / "curve.png", [{"step": 2, "loss": 1.0, "score": 0.5}], lambda: now[0])
    for now[0], step, score in ((20, 4, 0.7), (40, 6, 0.7), (60, 8, float("nan")), (80, 10, 0.6), (90, 12, 0.9)):
        logger.log(step, {"loss": 1.0, "score": score})
    assert marked == [(40, 4), (80, 4)]
    logger.close()
    logger.close()
    assert marked[2:] == [(90, 12)]


def test_tensorboard_hides_what_a_run_that_is_gone_on_with_repeats(tmp_path: Path, tensorboard: type[Writer]) -> None:
    with pytest.raises(InterruptedRunError):
        run_loop(Point(7), SETTINGS, tmp_path, CPU, loggers=named_loggers(["tensorboard"], tmp_path, anew=False))
    run_loop(Point(), SETTINGS, tmp_path, CPU, loggers=named_loggers(["tensorboard"] * 2, tmp_path, anew=False))
    folder = str(tmp_path / "tensorboard")
    assert tensorboard.opened == [(folder, 3), (folder, 9)]
    assert [step for name, _, step in tensorboard.points if name == "score"] == [3, 6, 9, 12]
    assert {name for name, _, _ in tensorboard.points} == {"seconds", "loss", "score"}
    TensorBoardLogger(tmp_path, anew=True).log(3, {"loss": 1.0})
    assert tensorboard.opened[-1] == (str(tmp_path), 0)


def test_a_missing_tensorboard_is_named_with_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(PipelineError, match=r"--logger tensorboard: .* is not installed.*moe-pipeline\[tensorboard\]"):
        named_loggers(["tensorboard"], tmp_path, anew=False)
    assert not list(tmp_path.iterdir())


def test_the_logger_of_the_manual_works(tmp_path: Path) -> None:
    code = re.search(
        r"^class MlflowLogger:\n.*?(?=^place = )", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
    )
    assert code is not None
    told: list[tuple[str, Any]] = []
    mlflow = ModuleType("mlflow")
    mlflow.start_run = lambda run_name: told.append(("start", run_name))  # type: ignore[attr-defined]
    mlflow.log_metrics = lambda values, step: told.append(("metrics", (step, sorted(values))))  # type: ignore[attr-defined]
    mlflow.end_run = lambda: told.append(("end", None))  # type: ignore[attr-defined]
    names: dict[str, Any] = {"mlflow": mlflow}
    exec(code[0], names)
    run_loop(Point(), SETTINGS, tmp_path, CPU, loggers=[names["MlflowLogger"]()])
    columns = ["loss", "score", "seconds"]
    metrics = [("metrics", (step, columns)) for step in (3, 6, 9, 12)]
    assert told == [("start", "hippocampus"), *metrics, ("end", None)]
