from pathlib import Path

import pytest

from moe_pipeline.cli import main
from moe_pipeline.commands.report import report_line
from tests.phantoms.predictions import CASES, write_prediction

STILL = 'src="data:image/jpeg'


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_prediction(tmp_path_factory.mktemp("command"))


def test_a_page_that_cannot_be_made_is_said_and_costs_nothing(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (out / "report.html").write_text("mine")
    assert "was not written by moe" in report_line([out])
    assert (out / "report.html").read_text() == "mine"
    (out / "report.html").unlink()
    monkeypatch.setattr("moe_pipeline.commands.report.write_report", lambda *_: 1 / 0)
    line = report_line([out])
    assert line.startswith("no report: report: ZeroDivisionError")
    assert "please report it" in line


def test_the_page_lies_beside_the_tables_unless_it_is_left_out(out: Path, tmp_path: Path) -> None:
    asked = ["evaluate", "-i", str(out), "-r", str(out.parent / "references"), "-o", str(tmp_path / "scores")]
    with pytest.raises(SystemExit):
        main([*asked, "--no-report"])
    assert not (tmp_path / "scores" / "report.html").exists()
    with pytest.raises(SystemExit):
        main(asked)
    text = (tmp_path / "scores" / "report.html").read_text(encoding="utf-8")
    assert text.count(STILL) == len(CASES)  # the images are those of the prediction


def test_the_command_writes_where_it_is_told(out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "page.html"
    with pytest.raises(SystemExit) as ended:
        main(["report", str(out), "-o", str(page), "--cases", "1", "--anonymous"])
    assert not ended.value.code
    assert str(page) in capsys.readouterr().out
    assert page.read_text(encoding="utf-8").count(STILL) == 1
