from pathlib import Path

from moe_pipeline.journal.journal import Journal
from moe_pipeline.records.check import CheckedCase


def test_a_line_holds_while_files_and_description_are_the_same(tmp_path: Path) -> None:
    file, path = tmp_path / "a.txt", tmp_path / "new" / "cases.jsonl"
    file.write_text("one")
    journal = Journal(path, CheckedCase, tmp_path, "d1")
    line = CheckedCase(case_id="a", description_sha256="d1", files=journal.stamp([file]))
    assert journal.find("a", [file]) is None
    journal.add(line)
    assert journal.find("a", [file]) == line
    assert Journal(path, CheckedCase, tmp_path, "d1").find("a", [file]) == line
    assert Journal(path, CheckedCase, tmp_path, "d2").find("a", [file]) is None
    assert journal.find("a", [file, file]) is None
    file.write_text("two")
    assert Journal(path, CheckedCase, tmp_path, "d1").find("a", [file]) is None


def test_lines_that_were_cut_off_are_ignored_and_later_ones_count(tmp_path: Path) -> None:
    path = tmp_path / "cases.jsonl"
    journal = Journal(path, CheckedCase, tmp_path, "d")
    journal.add(CheckedCase(case_id="a", description_sha256="old", files=()))
    with path.open("a") as stream:
        stream.write('{"case_id": "b", "descr')
    Journal(path, CheckedCase, tmp_path, "d").add(CheckedCase(case_id="a", description_sha256="d", files=()))
    again = Journal(path, CheckedCase, tmp_path, "d")
    assert list(again.known) == ["a"]
    assert again.find("a", []) is not None
