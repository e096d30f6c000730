"""An accepted case is part of a dataset as a whole, or not at all."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from moe_pipeline.datasets.dataset import open_dataset
from moe_pipeline.errors import PipelineError
from moe_pipeline.files import write_text
from moe_pipeline.imaging.geometry import Geometry
from moe_pipeline.imaging.io.files import read_label_map, write_image
from moe_pipeline.imaging.io.native import read_native
from moe_pipeline.imaging.volume import Volume, to_canonical
from moe_pipeline.inference.api import Predictor
from moe_pipeline.inference.session.session import Session
from moe_pipeline.journal.together import finish_moves
from moe_pipeline.mixture.model import Mixture
from moe_pipeline.planning.plan_dataset import plan_dataset
from moe_pipeline.prompts.read import read_prompts
from moe_pipeline.records.prompts import SessionEvent

NATIVE = Geometry((20, 24, 18), (1.5, 1.0, 2.5), (10.0, 5.0, 3.0), (-1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0))


def bright(at: int = 6) -> Volume:
    array = np.random.default_rng(at).normal(size=NATIVE.shape).astype(np.float32)
    array[at : at + 8, 8:16, 5:12] += 100.0
    return Volume(array, NATIVE)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "Dataset900_Ball"


def accepted_as(model: Mixture, folder: Path, case: str, name: str = "ball") -> Session:
    scan = folder.parent / "scans" / f"{case}.nii.gz"
    scan.parent.mkdir(exist_ok=True)
    write_image(to_canonical(bright()), scan, NATIVE)
    session = Predictor(model).session(scan)
    session.new_object(1, name)
    session.add_click((10, 12, 8))
    session.accept(folder, image=scan)
    return session


def test_accepted_cases_are_a_dataset(follower: Mixture, folder: Path) -> None:
    session = accepted_as(follower, folder, "one")
    accepted_as(follower, folder, "two")
    dataset = open_dataset(folder)
    assert not dataset.faults
    assert [case.case_id for case in dataset.cases] == ["one", "two"]
    assert dataset.classes == {1: "ball"}
    assert dataset.json.numTraining == 2
    assert np.array_equal(read_native(folder / "labelsTr" / "one.nii.gz").array, session.labels.array)
    assert read_label_map(folder / "labelsTr" / "one.nii.gz").geometry == NATIVE.canonical()
    planned = plan_dataset(folder, folder.parent / "plans", "nano", folder.parent / "weights")
    assert planned.plan.classes
    read = read_prompts(folder / "prompts" / "one.json", ["one"]).of_case("one", NATIVE)
    assert [prompt.class_name for prompt in read] == ["ball"]
    lines = (folder / "journal" / "one.jsonl").read_text().splitlines()
    assert [SessionEvent.model_validate_json(line).action for line in lines] == ["new_object", "click", "accept"]


def test_a_correction_replaces_the_case(follower: Mixture, folder: Path) -> None:
    session = accepted_as(follower, folder, "one")
    before = session.labels.array
    session.new_object(2, "speck")
    mask = np.zeros(NATIVE.shape, bool)
    mask[1:3, 1:3, 1:3] = True
    session.set_mask(mask)
    session.accept(folder)
    after = read_native(folder / "labelsTr" / "one.nii.gz").array
    assert np.array_equal(after == 1, before == 1)
    assert np.array_equal(after == 2, mask)
    assert open_dataset(folder).classes == {1: "ball", 2: "speck"}


def test_an_image_in_memory_is_written_too(follower: Mixture, folder: Path) -> None:
    image = bright()
    session = Predictor(follower).session(image)
    session.add_click((10, 12, 8))
    session.accept(folder)
    assert np.array_equal(read_native(folder / "imagesTr" / "image_0000.nii.gz").array, image.array)


def test_what_is_not_ours_or_contradicts_is_refused(follower: Mixture, folder: Path) -> None:
    accepted_as(follower, folder, "one")
    with pytest.raises(PipelineError, match=r"two says class 1 cube, but dataset.json has 1 ball"):
        accepted_as(follower, folder, "two", "cube")
    label = folder / "labelsTr" / "one.nii.gz"
    label.write_bytes(b"edited elsewhere")
    with pytest.raises(PipelineError, match=r"one.nii.gz: is in the way.*changed since"):
        accepted_as(follower, folder, "one")
    assert label.read_bytes() == b"edited elsewhere"
    with pytest.raises(PipelineError, match="no object yet"):
        Predictor(follower).session(bright()).accept(folder)
    assert [path for path in folder.iterdir() if path.name.startswith(".")] == []


def content(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != "written.jsonl")
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_a_full_disk_leaves_everything_as_it_was(
    follower: Mixture, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    accepted_as(follower, folder, "one")
    before = content(folder)
    session = Predictor(follower).session(bright(9))
    session.new_object(1, "ball")
    session.add_click((12, 12, 8))

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("moe_pipeline.inference.session.accepted.write_native", full)
    with pytest.raises(OSError, match="No space left"):
        session.accept(folder)
    assert content(folder) == before


@pytest.mark.parametrize("killed_after", range(5))
def test_killed_at_any_moment_all_or_nothing_is_there(tmp_path: Path, killed_after: int) -> None:
    """A process that dies after so many renames; the next one finishes what was decided."""
    names = ["a.txt", "sub/b.txt", "sub/c.txt"]
    for name in names:
        write_text(tmp_path / name, "old")
    code = f"""
import os, sys
from pathlib import Path
from moe_pipeline.files import write_text
from moe_pipeline.journal.together import written_together
folder, left = Path({str(tmp_path)!r}), {killed_after}
with written_together(folder, "case", lambda _: None) as staged:
    for name in {names!r}:
        write_text(staged / name, "new")
    rename = Path.replace
    def counted(self, target):
        global left
        if not left:
            os._exit(9)
        left -= 1
        return rename(self, target)
    Path.replace = counted
"""
    died = subprocess.run([sys.executable, "-c", code], check=False, env=os.environ).returncode
    assert died == (9 if killed_after < 4 else 0)
    finish_moves(tmp_path)
    assert {(tmp_path / name).read_text() for name in names} == {"new" if killed_after else "old"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.txt", "sub"]
