"""The commands on finished models, as typed: what they print, and their exit codes."""

from pathlib import Path

import pytest

from moe_pipeline.cli import main
from moe_pipeline.evaluation.forgetting.compare import Comparison
from moe_pipeline.workspace import Workspace

ONE, THREE = "Dataset001_One", "Dataset003_Three"


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    """Exit code and everything printed."""
    with pytest.raises(SystemExit) as stop:
        main(list(arguments))
    captured = capsys.readouterr()
    code = stop.value.code
    return (code if isinstance(code, int) else 0), captured.out + captured.err


def test_experts_join_are_listed_and_leave(capsys: pytest.CaptureFixture[str], place: Workspace) -> None:
    root = ("--workspace", str(place.root))
    code, text = run(capsys, "experts", "add", "3", "--risk", "0.5", "--confidence", "0.5", *root)
    assert code == 0
    assert f"{THREE} joined; it speaks where its weight is above" in text
    assert f"{ONE}: others 100.0%" in text
    code, text = run(capsys, "experts", "list", *root)
    assert code == 0
    assert [line.split()[0] for line in text.splitlines()[2:]] == [ONE, "Dataset002_Two", THREE]
    assert run(capsys, "experts", "remove", THREE, *root)[0] == 0
    code, text = run(capsys, "experts", "remove", THREE, *root)
    assert code == 1
    assert "has no expert Dataset003_Three; it has: Dataset001_One, Dataset002_Two" in text


def test_a_model_goes_out_and_comes_in(capsys: pytest.CaptureFixture[str], place: Workspace, tmp_path: Path) -> None:
    root = ("--workspace", str(place.root))
    code, text = run(capsys, "export", str(tmp_path / "m.zip"), *root)
    assert code == 0
    assert "without the weights of the foundation tiny" in text
    code, text = run(capsys, "import", str(tmp_path / "m.zip"), *root)
    assert code == 1
    assert "exists already" in text
    background_clicks = ("--workspace", str(tmp_path / "background_clicks"))
    code, text = run(capsys, "import", str(tmp_path / "m.zip"), *background_clicks)
    assert code == 0
    assert "It needs the foundation tiny with sha256" in text
    code, text = run(capsys, "experts", "list", *background_clicks)
    assert ONE in text


def test_the_matrix_ends_with_its_verdict(
    capsys: pytest.CaptureFixture[str], place: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    matrix = ("evaluate", "--matrix", "--dataset", "1", "-o", str(tmp_path / "out"), "--workspace", str(place.root))
    code, text = run(capsys, *matrix, "--fail-on-regression", "1")
    assert code == 0
    assert "Mean Dice, 1 click per object" in text
    assert (tmp_path / "out" / "matrix_1_click.csv").is_file()
    asked: list[float] = []

    def worse(_comparison: Comparison, limit: float) -> list[str]:
        asked.append(limit)
        return ["CT liver: moe 0.1 against general 0.2"]

    monkeypatch.setattr(Comparison, "regressions", worse)
    code, text = run(capsys, *matrix, "--fail-on-regression")
    assert code == 1
    assert "worse: CT liver" in text
    assert asked == [0.002]
    assert run(capsys, *matrix)[0] == 0


@pytest.mark.parametrize(
    "arguments",
    [
        ["evaluate"],
        ["evaluate", "-i", "a"],
        ["evaluate", "-i", "a", "-r", "b", "--clicks", "5"],
        ["evaluate", "--matrix", "-i", "a", "-r", "b"],
        ["evaluate", "--matrix", "--fail-on-regression", "much"],
        ["train-gate", "1", "--targets", "guess"],
        ["train-gate", "1", "--rule", "none"],
    ],
    ids=" ".join,
)
def test_wrong_usage_ends_with_two(capsys: pytest.CaptureFixture[str], tmp_path: Path, arguments: list[str]) -> None:
    code, text = run(capsys, *arguments, "--workspace", str(tmp_path))
    assert code == 2
    assert "Traceback" not in text


@pytest.mark.parametrize("command", ["experts list", "experts remove X", "export out.zip", "evaluate --matrix"])
def test_no_model_is_named(capsys: pytest.CaptureFixture[str], tmp_path: Path, command: str) -> None:
    code, text = run(capsys, *command.split(), "--workspace", str(tmp_path / "nowhere"))
    assert code == 1
    assert "nowhere" in text
    assert "moe.json" in text
