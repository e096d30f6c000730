"""A prediction whose cases are done elsewhere is that of one process, whatever dies on the way."""

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from moe_pipeline.cluster.cases import CasesOnEngine, absolute
from moe_pipeline.cluster.engines import Engine, Lost
from moe_pipeline.cluster.records import Resources
from moe_pipeline.cluster.units import Unit
from moe_pipeline.cluster.worker import Job, carry_out
from moe_pipeline.inference.batch import case_files
from moe_pipeline.inference.batch.folder import FolderOutcome, predict_folder
from moe_pipeline.inference.keywords import predict_options
from moe_pipeline.model.sam.foundation import SamFoundation
from moe_pipeline.records.foundation import View
from moe_pipeline.workspace import Workspace
from tests.phantoms.foundations import save_tiny
from tests.phantoms.night import write_night

KEPT = ("bad_clicks", "bad_nan", "good_00", "good_01", "good_02", "good_03")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, tiny_foundation: SamFoundation) -> Workspace:
    """A workspace with a foundation, and six images of which two are bad."""
    place = Workspace(tmp_path_factory.mktemp("night"))
    save_tiny(tiny_foundation, place.weights, View(spacing_mm=1.0, size_voxels=16))
    write_night(place.root)
    for path in (place.root / "images").iterdir():
        if path.name.removesuffix(".nii.gz") not in KEPT:
            path.unlink()
    return place


def predict(place: Workspace, out: Path, engine: Engine | None = None) -> FolderOutcome:
    options = predict_options(
        place.root / "images",
        out,
        prompts=place.root / "clicks.json",
        foundation="tiny",
        weights_root=place.weights,
    )
    cases = None if engine is None else CasesOnEngine.of(engine, Resources(), absolute(options.model), out)
    return predict_folder(options.model.load(), options, run=cases)


def maps(out: Path) -> dict[str, bytes]:
    assert not list(out.rglob(".*"))
    return {path.name: path.read_bytes() for path in sorted(out.glob("*.nii.gz"))}


def told(outcome: FolderOutcome) -> list[tuple[str, str, str]]:
    return [(row.case, row.status, row.message.partition(" (/")[0]) for row in outcome.rows]


@pytest.fixture(scope="module")
def alone(place: Workspace, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, FolderOutcome]:
    out = tmp_path_factory.mktemp("alone") / "out"
    return out, predict(place, out)


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Cases that were read, in their order."""
    read, begun = case_files.CaseFiles.read, []

    def reading(self: Any, task: Any) -> Any:
        begun.append(task.case)
        return read(self, task)

    monkeypatch.setattr(case_files.CaseFiles, "read", reading)
    return begun


class Dying:
    """Does some units; then the command is killed: what the workers have done meanwhile nobody has noted."""

    def __init__(self, told_of: int, done: int) -> None:
        self.told_of, self.done = told_of, done

    def run(self, job: Job[Any, Any], units: Sequence[Unit[Any]]) -> Iterator[str | Lost]:
        for number, unit in enumerate(units):
            if number == self.done:
                raise SystemExit("killed")
            carry_out(job, unit)
            if number < self.told_of:
                yield unit.key
        raise SystemExit("killed")

    def told(self) -> str:
        return "dying"


def test_the_command_is_killed_and_repeated(
    place: Workspace, alone: tuple[Path, FolderOutcome], tmp_path: Path, here: Engine, computed: list[str]
) -> None:
    out = tmp_path / "out"
    with pytest.raises(SystemExit):
        predict(place, out, Dying(1, 4))
    assert (out / "good_00.nii.gz").is_file()
    assert "good_00" not in (out / "cases.csv").read_text()
    outcome = predict(place, out, here)
    assert sorted(computed) == sorted(KEPT)  # none twice, the bad ones neither
    assert told(outcome) == told(alone[1])
    assert maps(out) == maps(alone[0])
    assert not (out / "units").exists() or {path.name for path in (out / "units").iterdir()} == {"logs"}
    assert predict(place, out, here).tally.before == 4
    assert computed[len(KEPT) :] == ["bad_clicks", "bad_nan"]  # a run that came to its end tries them again
    assert "bad_nan" in next((out / "units" / "logs").glob("bad_nan*")).read_text()


def test_a_changed_image_is_done_again_and_a_file_of_somebody_else_is_left_alone(
    place: Workspace, tmp_path: Path, here: Engine, computed: list[str]
) -> None:
    other, out = Workspace(tmp_path / "ws"), tmp_path / "out"
    shutil.copytree(place.root, other.root)
    with pytest.raises(SystemExit):
        predict(other, out, Dying(0, 6))
    shutil.copy(other.root / "images" / "good_01.nii.gz", other.root / "images" / "good_02.nii.gz")
    (out / "good_03.nii.gz").write_text("by hand")
    del computed[:]
    with pytest.raises(Exception, match=r"good_03.nii.gz: is in the way"):
        predict(other, out, here)
    (out / "good_03.nii.gz").unlink()
    predict(other, out, here)
    assert computed == ["good_02", "good_03"]
    assert maps(out)["good_01.nii.gz"] != b""


def test_a_lost_workers_file_is_known_to_the_next_one(
    place: Workspace, alone: tuple[Path, FolderOutcome], tmp_path: Path, here: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One writes the label map and dies before it says so; elsewhere, under another process id, it is done again."""
    write, out = case_files.CaseFiles.write, tmp_path / "out"

    def dying(self: Any, *arguments: Any) -> Any:
        written = write(self, *arguments)
        if written.written:
            raise SystemExit("killed")
        return written

    with monkeypatch.context() as patch:
        patch.setattr(case_files.CaseFiles, "write", dying)
        with pytest.raises(SystemExit):
            predict(place, out, here)
    (notes,) = (out / "units").glob("*.notes")
    assert not list((out / "units").glob("good*.json"))
    outcome = predict(place, out, here)
    assert told(outcome) == told(alone[1])
    assert not notes.exists()


def test_a_case_whose_worker_is_always_lost_is_a_row(place: Workspace, tmp_path: Path) -> None:
    class Losing(Dying):
        def run(self, job: Job[Any, Any], units: Sequence[Unit[Any]]) -> Iterator[str | Lost]:  # noqa: ARG002
            yield from (Lost(unit, "its node is gone") for unit in units)

    outcome = predict(place, tmp_path / "out", Losing(0, 0))
    assert outcome.tally.failed == 6
    assert {row.message for row in outcome.rows} == {f"{case}: its node is gone" for case in KEPT}
