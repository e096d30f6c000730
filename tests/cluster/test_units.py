"""Files that several workers write without any lock."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from moe_pipeline.cluster.records import Resources, UnitRecord
from moe_pipeline.cluster.units import Board, Unit, noting, stat_of
from moe_pipeline.cluster.worker import Job, carry_out
from moe_pipeline.errors import PipelineError
from moe_pipeline.journal.written import Written
from tests.cluster.works import Doubling

WRITER = """
import sys
from pathlib import Path
from moe_pipeline.cluster.records import Resources
from moe_pipeline.cluster.units import Board, Unit
from moe_pipeline.cluster.worker import Job
from moe_pipeline.cluster import worker
from tests.cluster.works import Doubling
out = Path(sys.argv[1])
job = Job(Doubling(out), int, Board(out / "units"), Resources())
sys.stdin.readline()
for number in range(0, 80, 2):
    unit = Unit(str(number), number, "")
    job.board.write(unit.key, worker._attempt(job, unit))  # also if the other one has done it
"""


def units(count: int) -> list[Unit[int]]:
    return [Unit(str(number), number, "") for number in range(0, 2 * count, 2)]


def test_two_writers_of_the_same_units_leave_what_one_would(tmp_path: Path) -> None:
    command = [sys.executable, "-c", WRITER, str(tmp_path)]
    writers = [subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write("go\n")
        writer.stdin.flush()
    said = [writer.communicate()[1] for writer in writers]
    assert [writer.returncode for writer in writers] == [0, 0], "\n".join(said)
    board, own = Board(tmp_path / "units"), Written(tmp_path / "finished.jsonl")
    assert board.ended() == {unit.key for unit in units(40)}
    for unit in units(40):
        record = board.record(unit.key)
        assert record is not None
        assert record.result == 2 * unit.item
        assert (tmp_path / f"{unit.item}.txt").read_text() == str(2 * unit.item)
    assert len(list(board.folder.glob("*.notes"))) == 80  # each its own
    board.take_notes(own.take)
    assert not any(own.is_foreign(f"{unit.item}.txt") for unit in units(40))
    assert not list(tmp_path.glob(".*"))


def test_a_worker_that_was_only_thought_lost_is_not_in_the_way(tmp_path: Path) -> None:
    """Both have begun before either writes."""
    board, own = Board(tmp_path / "units"), Written(tmp_path / "finished.jsonl")
    board.folder.mkdir()
    first, second = (noting(own, board.folder / f"case.host-{number}.notes") for number in (1, 2))
    for worker in (first, second):
        worker.write_text("case.txt", "the same")
    (tmp_path / "case.txt").write_text("by hand")
    with pytest.raises(PipelineError, match=r"case.txt: is in the way"):
        second.write_text("case.txt", "the same")


def test_a_unit_that_has_ended_is_not_done_again_and_a_torn_record_is_none(tmp_path: Path) -> None:
    job, (unit,) = Job(Doubling(tmp_path), int, Board(tmp_path / "units"), Resources()), units(1)
    for _ in range(2):
        carry_out(job, unit)
    assert (tmp_path / "attempts" / "0").read_text().split("\n").count("") < 4  # one line, with the ends around it
    path = job.board.folder / f"{unit.key}.json"
    path.write_text(path.read_text()[:20])
    assert job.board.record(unit.key) is None


def test_a_full_disk_is_no_fault_of_the_case(tmp_path: Path) -> None:
    job, (unit,) = Job(_fill, int, Board(tmp_path / "units"), Resources()), units(1)
    carry_out(job, unit)
    assert json.loads((job.board.folder / f"{unit.key}.json").read_text())["status"] == "full"


def _fill(number: int, notes: Path) -> int:  # noqa: ARG001
    raise OSError(28, "No space left on device")


def test_keys_follow_the_inputs(tmp_path: Path) -> None:
    image = tmp_path / "image"
    image.write_text("one")
    before = stat_of([image])
    assert before == stat_of([image, tmp_path / "missing"])
    image.write_text("other")
    assert stat_of([image]) != before
    assert Unit("a", 0, "x").key != Unit("a", 0, "y").key
    assert Unit("a" * 300, 0, "x").key != Unit("a" * 299 + "b", 0, "x").key


def test_at_the_end_only_what_failed_is_forgotten_where_nothing_else_says_what_is_done(tmp_path: Path) -> None:
    board = Board(tmp_path / "units")
    for status in ("done", "failed"):
        board.write(status, UnitRecord(name=status, status=status))
    board.close(keep_done=True)
    assert board.ended() == {"done"}
    board.close()
    assert not board.folder.exists()
