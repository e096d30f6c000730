import sys

import pytest

from moe_pipeline.cli.common import progress_bar
from moe_pipeline.progress import track


def test_without_a_terminal_each_stage_says_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar(lines=True) as progress:
        for stage, n in (("converting A", 3), ("training", 2), ("training", 0)):
            list(track(range(n), stage, progress))
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition("s] ")[2] for line in lines] == ["converting A (3)", "training (2)", "training (0)"]


def test_a_stage_that_reports_no_beginning_says_its_line_all_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar(lines=True) as progress:
        for step in range(1, 4):
            progress("training", step, 160.0)
    assert [line.partition("s] ")[2] for line in capsys.readouterr().err.splitlines()] == ["training (160)"]


def test_other_commands_are_quiet_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar() as progress:
        list(track(range(3), "predicting", progress))
    assert capsys.readouterr() == ("", "")


def test_a_terminal_shows_a_bar(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with progress_bar(lines=True) as progress:
        list(track(range(3), "predicting", progress))
    shown = capsys.readouterr().err
    assert "3/3" in shown
    assert "s] predicting" not in shown
