import pickle
from pathlib import Path

import pytest

from moe_pipeline.errors import PipelineError
from moe_pipeline.files import sha256_file
from moe_pipeline.journal.written import Written, WrittenFile, files_below, refuse_existing, refuse_inputs


def test_only_what_we_wrote_and_nobody_changed_is_ours(tmp_path: Path) -> None:
    own = Written(tmp_path / "out" / "journal.jsonl")
    own.write_text("deep/ours", "1")
    own.write_text("deep/ours", "2")
    (tmp_path / "out" / "theirs").write_text("1")
    again = Written(tmp_path / "out" / "journal.jsonl")
    for one in (own, again, pickle.loads(pickle.dumps(own))):
        assert "deep/ours" in one
        assert one.names_in("deep") == ["deep/ours"]
        assert not one.is_foreign("deep/ours")
        assert not one.is_foreign("absent")
        assert one.is_foreign("theirs")
        assert one.is_foreign("deep")  # a folder
    (tmp_path / "out" / "deep" / "ours").write_text("3")  # of the same length
    assert again.is_foreign("deep/ours")
    again.remove("deep/ours")
    again.remove("theirs")
    with pytest.raises(PipelineError, match=r"out/deep/ours: is in the way and was not written by moe.*-o"):
        again.write_text("deep/ours", "4")
    assert (tmp_path / "out" / "deep" / "ours").read_text() == "3"
    assert (tmp_path / "out" / "theirs").read_text() == "1"
    assert not list(tmp_path.rglob(".*"))


def test_what_users_edit_is_set_aside_and_never_lost(tmp_path: Path) -> None:
    (tmp_path / "plan.previous.json").write_text("theirs")
    own = Written(tmp_path / "journal.jsonl")
    for text in ("1", "2"):
        own.write_over("plan.json", text)
    (tmp_path / "plan.json").write_text("edited")
    own.write_over("plan.json", "edited, and more", carried_over=True)
    (tmp_path / "plan.json").write_text("edited again")
    own.write_over("plan.json", "3")
    found = {path.name: path.read_text() for path in tmp_path.glob("*.json")}
    assert found == {"plan.json": "3", "plan.previous.json": "theirs", "plan.previous2.json": "edited again"}


def test_what_was_written_before_a_crash_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = Written(tmp_path / "journal.jsonl")
    own.write_text("ours", "old")

    def killed(*_: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", killed)  # the line is there, the file has not got its name
    with pytest.raises(KeyboardInterrupt):
        own.write_text("ours", "new")
    monkeypatch.undo()
    with (tmp_path / "journal.jsonl").open("a") as stream:
        stream.write('{"file": "ou')
    again = Written(tmp_path / "journal.jsonl")
    assert not again.is_foreign("ours")
    again.remove("ours")
    assert not (tmp_path / "ours").exists()


def test_a_link_is_never_ours(tmp_path: Path) -> None:
    own = Written(tmp_path / "out" / "journal.jsonl")
    own.write_text("a", "same")
    (tmp_path / "theirs").write_text("same")
    (tmp_path / "out" / "a").unlink()
    (tmp_path / "out" / "a").symlink_to(tmp_path / "theirs")
    assert own.is_foreign("a")
    (tmp_path / "theirs").unlink()
    assert own.is_foreign("a")  # also when it leads nowhere


@pytest.mark.parametrize("content", ["", "x\n", '{"case_id": "a"}\n', "[1]\n", '"case_id"\n'])
def test_a_journal_of_somebody_else_is_not_appended_to(tmp_path: Path, content: str) -> None:
    (tmp_path / "journal.jsonl").write_text(content)
    with pytest.raises(PipelineError, match=r"journal\.jsonl: is in the way and was not written by moe"):
        Written(tmp_path / "journal.jsonl")


def test_what_is_read_is_not_written_even_if_it_is_ours(tmp_path: Path) -> None:
    own = Written(tmp_path / "out" / "journal.jsonl")
    own.write_text("a", "1")
    own.write_text("deep/b", "1")
    (tmp_path / "elsewhere").mkdir()
    own.check(["a", "deep/b", "absent"], [tmp_path / "elsewhere", tmp_path])  # a folder may hold its output folder
    for name, read in (("a", "out"), ("a", "out/a"), ("deep/b", "out"), ("deep/b", "out/deep")):
        with pytest.raises(PipelineError, match=rf"out/{name}: would be replaced, but is one of the inputs"):
            own.check([name], [tmp_path / read])
    own.check(["a"], [tmp_path / "out" / "deep"])
    (tmp_path / "link").symlink_to(tmp_path / "out")
    with pytest.raises(PipelineError, match="is one of the inputs"):
        refuse_inputs(tmp_path / "out", [tmp_path / "elsewhere", tmp_path / "link"])
    refuse_inputs(tmp_path / "out", [tmp_path / "elsewhere", tmp_path])


def test_a_folder_is_ours_if_all_of_it_is(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    own = Written(folder / "written.jsonl")
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "a").write_text("1")
    with pytest.raises(PipelineError, match="deep/a: would be lost, but was not written by moe"):
        own.check_all()
    own.adopt(files_below(folder))
    own.check_all()
    Written(folder / "written.jsonl").check_all()
    (folder / "notes.txt").write_text("theirs")
    with pytest.raises(PipelineError, match=r"notes\.txt: would be lost"):
        own.check_all()
    known = WrittenFile(file="notes.txt", size_bytes=6, sha256=sha256_file(folder / "notes.txt"))
    Written(folder / "written.jsonl", [known]).check_all()
    (tmp_path / "link").symlink_to(folder)
    with pytest.raises(PipelineError, match="would be lost"):
        Written(tmp_path / "link" / "written.jsonl").check_all()


def test_nothing_outside_of_the_folder_is_ours(tmp_path: Path) -> None:
    (tmp_path / "theirs").write_text("1")
    (tmp_path / "out").mkdir()
    line = WrittenFile(file="../theirs", size_bytes=1, sha256=sha256_file(tmp_path / "theirs"))
    (tmp_path / "out" / "journal.jsonl").write_text(
        line.model_dump_json() + '\n{"case_id": "a", "description_sha256": "b"}\n'
    )
    own = Written(tmp_path / "out" / "journal.jsonl")
    own.remove("../theirs")
    assert own.is_foreign("../theirs")
    assert (tmp_path / "theirs").read_text() == "1"


def test_a_file_without_a_record_is_not_written_twice(tmp_path: Path) -> None:
    refuse_existing(tmp_path / "a")
    (tmp_path / "a").symlink_to(tmp_path / "nowhere")
    with pytest.raises(PipelineError, match=r"a: exists already; give another output \(-o\)"):
        refuse_existing(tmp_path / "a")
