import math
from html import escape
from html.parser import HTMLParser
from pathlib import Path

import pytest

from moe_pipeline.errors import PipelineError
from moe_pipeline.files import csv_text
from moe_pipeline.report.options import ReportOptions
from moe_pipeline.report.page.blocks import Figures, Table, Viewer
from moe_pipeline.report.write import page_of, write_report
from tests.phantoms.predictions import CASES, CLASS, FAILED, write_prediction

PLAIN = ReportOptions()


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_prediction(tmp_path_factory.mktemp("report"))


@pytest.fixture(scope="module")
def text(out: Path) -> str:
    return write_report([out], out.parent / "page.html").read_text(encoding="utf-8")


class Parsed(HTMLParser):
    """Elements, their attributes, and the text that people read."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.words = ""
        self._inside = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        self._inside = tag

    def handle_data(self, data: str) -> None:
        self.words += "" if self._inside in ("script", "style", "pre") else data


def test_hostile_names_are_text(text: str) -> None:
    parsed = Parsed(text)
    for name in (*CASES, CLASS, FAILED):
        assert name in parsed.words
    ours = parsed.tags.count("script")
    data = sum(value in ("text/plain", "application/json") for name, value in parsed.attributes if name == "type")
    policy = next(value or "" for name, value in parsed.attributes if name == "content" and "sha256-" in (value or ""))
    assert ours == data + policy.count("sha256-")
    assert not [name for name, _ in parsed.attributes if name.startswith("on")]


def test_only_our_scripts_may_run_and_nothing_may_be_loaded(text: str) -> None:
    attributes = Parsed(text).attributes
    policy = next(value or "" for name, value in attributes if name == "content" and "default-src" in (value or ""))
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert rules["default-src"] == "'none'"
    assert all(source.startswith("'sha256-") for source in rules["script-src"].split())
    assert {rules[name] for name in ("img-src", "font-src", "connect-src")} == {"data:"}
    links = [value for name, value in Parsed(text).attributes if name in ("src", "href", "xlink:href") and value]
    assert all(link.startswith(("data:", "#")) for link in links)


def test_the_worst_come_first_and_what_failed_before_them(out: Path) -> None:
    page = page_of([out], PLAIN)
    (viewer,) = [block for section in page.sections for block in section.blocks if isinstance(block, Viewer)]
    assert [row[0].text for row in viewer.table.rows] == [FAILED, CASES[2], CASES[1], CASES[0]]
    assert list(viewer.cases) == [CASES[2], CASES[1], CASES[0]]
    assert [cell.text for cell in viewer.cases[CASES[1]].objects[0].cells[1:6]] == [
        "Dataset001_One",
        "0.75",
        "yes",
        "2",
        "1.08",
    ]
    dice = [float(viewer.cases[case].objects[0].cells[6].order or 0) for case in CASES]
    assert dice == pytest.approx([1, 2 / 3, 0])


def test_anonymous_pages_name_neither_case_nor_path(out: Path) -> None:
    path = write_report([out], out.parent / "anonymous.html", ReportOptions(anonymous=True))
    content = path.read_text(encoding="utf-8")
    assert "case 1" in Parsed(content).words
    for name in (*CASES, FAILED, "secret", str(out.parent)):
        assert name not in content
        assert escape(name) not in content


def test_fewer_cases_and_megabytes(out: Path) -> None:
    page = page_of([out], ReportOptions(cases=1))
    (viewer,) = [block for section in page.sections for block in section.blocks if isinstance(block, Viewer)]
    assert list(viewer.cases) == [CASES[2]]
    assert len(viewer.table.rows) == 4
    with pytest.raises(PipelineError, match="--max-mb"):
        write_report([out], out.parent / "small.html", ReportOptions(max_mb=0.05))


def test_without_images_the_tables_are_there_and_the_reason(out: Path, tmp_path: Path) -> None:
    page = page_of([out], ReportOptions(images=tmp_path / "gone"))
    (viewer,) = [block for section in page.sections for block in section.blocks if isinstance(block, Viewer)]
    assert not any(case.scan for case in viewer.cases.values())
    assert "--images" in str(page.sections[-1].blocks[0])


def test_a_page_of_ours_is_replaced_and_anything_else_is_not(out: Path, tmp_path: Path) -> None:
    target = tmp_path / "page.html"
    options = ReportOptions(cases=0)
    write_report([out], target, options)
    first = target.read_bytes()
    write_report([out], target, options)
    assert target.read_bytes() == first
    target.write_bytes(first.replace(b"Mean Dice", b"My  Dice", 1))
    with pytest.raises(PipelineError, match="changed since"):
        write_report([out], target, options)


def test_trainings_stand_beside_each_other(tmp_path: Path) -> None:
    for name, top in (("one", 0.5), ("other", 0.8)):
        rows = [
            {"step": k, "seconds": 30.0 * k, "loss": 1 / k, "score": top * k / 4, "dice_1": math.nan}
            for k in (1, 2, 3, 4)
        ]
        (tmp_path / "runs" / name).mkdir(parents=True)
        (tmp_path / "runs" / name / "log.csv").write_text(csv_text(list(rows[0]), rows))
    page = page_of([tmp_path / "runs"], PLAIN)
    assert "0.800, is that of other" in page.lead
    (table,) = [block for block in page.sections[0].blocks if isinstance(block, Table)]
    assert [row[0].text for row in table.rows] == ["one", "other"]
    alone = page_of([tmp_path / "runs" / "one"], PLAIN)
    assert "step 4 of 4" in alone.lead
    assert any(isinstance(block, Figures) for block in alone.sections[0].blocks)


def test_what_is_no_run_is_refused_with_what_there_is(tmp_path: Path) -> None:
    (tmp_path / "ws" / "plans" / "Dataset001_A").mkdir(parents=True)
    (tmp_path / "ws" / "plans" / "Dataset001_A" / "plan.json").touch()
    with pytest.raises(PipelineError, match=r"In it there are: .*Dataset001_A"):
        page_of([tmp_path / "ws"], PLAIN)
    with pytest.raises(PipelineError, match="no such folder"):
        page_of([tmp_path / "gone"], PLAIN)
