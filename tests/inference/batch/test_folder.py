"""Nights that go wrong: bad files, killed processes, full disks."""

import csv
import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from multiprocessing import active_children
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from moe_pipeline.cli import main
from moe_pipeline.commands.predict import PredictReport, predict_and_score
from moe_pipeline.errors import PipelineError
from moe_pipeline.imaging.dicom.labels import open_label_file, read_structures
from moe_pipeline.imaging.io import nifti_header
from moe_pipeline.imaging.io.files import list_label_maps, read_geometry, read_label_map, write_label_map
from moe_pipeline.imaging.volume import Volume
from moe_pipeline.inference.batch import case_files
from moe_pipeline.inference.batch.case_files import CaseFiles
from moe_pipeline.inference.batch.prompt_sources import references_in
from moe_pipeline.inference.interactive.segment_case import segment_case
from moe_pipeline.inference.keywords import predict_options
from moe_pipeline.inference.options import PredictOptions
from moe_pipeline.model.sam.foundation import SamFoundation
from moe_pipeline.records.foundation import View
from moe_pipeline.workspace import Workspace
from tests.phantoms.foundations import save_tiny
from tests.phantoms.night import GRID, N_GOOD, REASONS, write_clicks, write_good, write_night


def test_references_with_numbers_like_channels_are_all_found(tmp_path: Path) -> None:
    names = [f"scan_{number:04d}" for number in range(3)]
    for name in names:
        (tmp_path / f"{name}.nii.gz").touch()
    assert list(dict(references_in(tmp_path).files)) == names


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, tiny_foundation: SamFoundation) -> Workspace:
    """A workspace with a foundation, 30 images of which 8 are bad, and clicks for all."""
    place = Workspace(tmp_path_factory.mktemp("night"))
    view = View(spacing_mm=1.0, size_voxels=16)
    save_tiny(tiny_foundation, place.weights, view)
    write_night(place.root)
    return place


def options(place: Workspace, out: Path, **more: Any) -> PredictOptions:
    given = {"images": place.root / "images", "prompts": place.root / "clicks.json", "foundation": "tiny"}
    return predict_options(**{**given, "out": out, **more})


def predict(place: Workspace, out: Path, **more: Any) -> PredictReport:
    return predict_and_score(place, options(place, out, **more))


def rows_of(out: Path) -> list[dict[str, str]]:
    """Without what depends on the clock."""
    with (out / "cases.csv").open() as stream:
        return [{key: value for key, value in row.items() if key != "seconds"} for row in csv.DictReader(stream)]


def result_of(out: Path) -> tuple[dict[str, bytes], list[dict[str, str]]]:
    """Label maps and rows; nothing half written may lie beside them."""
    assert not list(out.rglob(".*"))
    return {path.name: path.read_bytes() for path in sorted(out.glob("*.nii.gz"))}, rows_of(out)


@pytest.fixture(scope="module")
def undisturbed(place: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("undisturbed") / "out"
    assert predict(place, out).failed
    return out


class Counted:
    """Lets a function through, but for one call."""

    def __init__(self, function: Callable[..., Any], at: int = 0, instead: BaseException | None = None) -> None:
        self.function, self.at, self.instead = function, at, instead
        self.calls = 0

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        self.calls += 1
        if self.calls == self.at and self.instead is not None:
            raise self.instead
        return self.function(*arguments, **named)


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> Counted:
    """How many cases were computed."""
    counted = Counted(segment_case)
    monkeypatch.setattr(case_files, "segment_case", counted)
    return counted


def test_eight_bad_files_cost_no_good_one(undisturbed: Path) -> None:
    maps, rows = result_of(undisturbed)
    assert sorted(maps) == [f"good_{number:02d}.nii.gz" for number in range(N_GOOD)]
    failed = {row["case"]: row["message"] for row in rows if row["status"] == "failed"}
    assert failed.keys() == REASONS.keys()
    for case, reason in REASONS.items():
        assert reason in failed[case]
        assert case in failed[case]
    assert len(rows) == N_GOOD + len(REASONS)
    assert any(read_label_map(undisturbed / name).array.any() for name in maps)


_KILLED = """
import os, signal, sys
from moe_pipeline import files
from moe_pipeline.cli import main
def dying(function, at, calls=[0]):
    def instead(*arguments):
        calls[0] += 1
        if calls[0] == at:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*arguments)
    return instead
files._flush_to_disk = dying(files._flush_to_disk, 20)
main(sys.argv[1:])
"""


def test_killed_half_way_and_repeated_is_the_same(
    place: Workspace, undisturbed: Path, tmp_path: Path, computed: Counted
) -> None:
    out = tmp_path / "out"
    words = ["predict", "-i", place.root / "images", "-o", out, "--prompts", place.root / "clicks.json"]
    words += ["--foundation", "tiny", "--workspace", place.root]
    command = [sys.executable, "-c", _KILLED, *map(str, words)]
    killed = subprocess.run(command, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True)
    assert killed.returncode == -signal.SIGKILL
    n_done = len(list(out.glob("*.nii.gz")))
    assert 2 < n_done < N_GOOD
    assert list(out.rglob(".*.tmp.*"))  # it died while it wrote
    assert predict(place, out).failed
    assert N_GOOD - n_done <= computed.calls <= N_GOOD - n_done + 1  # one may have been written but not noted
    assert result_of(out) == result_of(undisturbed)


def test_the_command_ends_with_1_and_says_why(
    place: Workspace, undisturbed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(undisturbed, tmp_path / "out")
    words = ["predict", "-i", place.root / "images", "-o", tmp_path / "out", "--foundation", "tiny"]
    words += ["--prompts", place.root / "clicks.json", "--workspace", place.root]
    with pytest.raises(SystemExit) as stop:
        main(list(map(str, words)))
    assert stop.value.code == 1
    text = capsys.readouterr().out
    assert "22 label maps, 8 failed cases" in text
    assert all(f"  {case}: " in text for case in REASONS)


def test_what_is_done_is_not_done_again(place: Workspace, undisturbed: Path, tmp_path: Path, computed: Counted) -> None:
    out = shutil.copytree(undisturbed, tmp_path / "out")
    before = (out / "cases.csv").read_text()
    predict(place, out)
    assert computed.calls == 0
    kept = [line for line in before.splitlines() if "good" in line]
    assert [line for line in (out / "cases.csv").read_text().splitlines() if "good" in line] == kept  # seconds too
    predict(place, out, overwrite=True)
    assert computed.calls == N_GOOD
    assert result_of(out) == result_of(undisturbed)


def test_what_has_changed_is_done_again(place: Workspace, undisturbed: Path, tmp_path: Path, computed: Counted) -> None:
    out = shutil.copytree(undisturbed, tmp_path / "out")
    images = shutil.copytree(place.root / "images", tmp_path / "images")
    shutil.copy(images / "good_00.nii.gz", images / "good_01.nii.gz")
    (out / "good_02.nii.gz").unlink()
    write_clicks(tmp_path / "clicks.json", good_03=[3, 3, 3])
    os.utime(images / "good_04.nii.gz")  # only touched
    changed = {"images": images, "prompts": tmp_path / "clicks.json"}
    predict(place, out, **changed)
    assert computed.calls == 3
    assert (out / "good_01.nii.gz").read_bytes() == (out / "good_00.nii.gz").read_bytes()
    predict(place, out, **changed, max_crops=1)
    assert computed.calls == 3 + N_GOOD
    predict(place, out, **changed, max_crops=1, uncertainty=True)
    assert computed.calls == 3 + 2 * N_GOOD
    (out / "uncertainty" / "good_05.nii.gz").unlink()
    predict(place, out, **changed, max_crops=1, uncertainty=True)
    assert computed.calls == 3 + 2 * N_GOOD + 1


def test_references_and_seeds_count_as_prompts(place: Workspace, tmp_path: Path, computed: Counted) -> None:
    images, labels = tmp_path / "images", tmp_path / "labels"
    images.mkdir()
    for number in range(2):
        write_good(images, f"good_{number}", number)
        mask = np.zeros(GRID.shape, np.uint8)
        mask[3:9, 3:9, 2:8] = 1
        write_label_map(Volume(mask, GRID), labels / f"good_{number}.nii.gz", GRID)
    given = {"images": images, "prompts": None, "labels": labels}
    for calls, more in ((2, {}), (2, {}), (4, {"seed": 1}), (6, {"clicks": 2})):
        assert not predict(place, tmp_path / "out", **given, **more).failed
        assert computed.calls == calls
    mask[3, 3, 3] = 0
    write_label_map(Volume(mask, GRID), labels / "good_1.nii.gz", GRID)
    predict(place, tmp_path / "out", **given, clicks=2)
    assert computed.calls == 7


def test_a_case_that_turns_bad_leaves_no_old_answer(place: Workspace, undisturbed: Path, tmp_path: Path) -> None:
    out = shutil.copytree(undisturbed, tmp_path / "out")
    images = shutil.copytree(place.root / "images", tmp_path / "images")
    path = images / "good_07.nii.gz"
    path.write_bytes(path.read_bytes()[:-300])
    predict(place, out, images=images)
    assert not (out / "good_07.nii.gz").exists()
    (row,) = (row for row in rows_of(out) if row["case"] == "good_07")
    assert "truncated" in row["message"]


def test_interruption_keeps_what_is_done(
    place: Workspace, undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted = Counted(segment_case, 8, KeyboardInterrupt())
    monkeypatch.setattr(case_files, "segment_case", counted)
    with pytest.raises(KeyboardInterrupt, match=r"7 of 30 cases are finished and kept; the same command goes on"):
        predict(place, tmp_path / "out")
    maps, rows = result_of(tmp_path / "out")
    assert len(maps) == 7
    assert sum(row["status"] == "ok" or row["status"] == "absent" for row in rows) == 7
    predict(place, tmp_path / "out")
    assert counted.calls == 8 + N_GOOD - 7
    assert result_of(tmp_path / "out") == result_of(undisturbed)


def test_ctrl_c_is_answered_by_what_is_kept(
    place: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(case_files, "segment_case", Counted(segment_case, 3, KeyboardInterrupt()))
    words = ["predict", "-i", place.root / "images", "-o", tmp_path / "out", "--foundation", "tiny"]
    with pytest.raises(SystemExit) as stop:
        main([*map(str, words), "--prompts", str(place.root / "clicks.json"), "--workspace", str(place.root)])
    assert stop.value.code == 1
    assert "interrupted. 2 of 30 cases are finished and kept; the same command goes on" in capsys.readouterr().err


STAGES = {"read": "load_image", "answer": "segment_case", "write": "write_label_map"}


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("fault", [IndexError("what?"), ZeroDivisionError(), UnicodeError("x"), RecursionError("deep")])
def test_whatever_is_raised_costs_its_case_and_leaves_a_report(
    place: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str, fault: Exception
) -> None:
    images, out = tmp_path / "images", tmp_path / "out"
    images.mkdir()
    for number in range(3):
        write_good(images, f"good_{number:02d}", number)
    whole = getattr(case_files, STAGES[stage])
    monkeypatch.setattr(case_files, STAGES[stage], Counted(whole, 2, fault))
    report = predict(place, out, images=images)
    assert "2 label maps, 1 failed cases" in report.text
    assert "3 found = 2 done + 0 finished before + 0 left out + 1 failed" in report.text
    (row,) = (row for row in rows_of(out) if row["status"] == "failed")
    assert row["case"] == "good_01"
    assert f"good_01: {type(fault).__name__}: {fault}" in row["message"]
    assert str(out / "errors" / "good_01.txt") in row["message"]
    text = (out / "errors" / "good_01.txt").read_text()
    assert text.startswith("Traceback")
    assert type(fault).__name__ in text
    monkeypatch.setattr(case_files, STAGES[stage], whole)
    assert "3 found = 1 done + 2 finished before + 0 left out + 0 failed" in predict(place, out, images=images).text
    assert not (out / "errors" / "good_01.txt").exists()


def test_the_numbers_of_a_run_add_up(place: Workspace, undisturbed: Path, tmp_path: Path) -> None:
    results = json.loads((undisturbed / "run.json").read_text())["results"]
    assert (results["done"], results["failed"], results["left_out"], results["found"]) == (N_GOOD, 8, 0, N_GOOD + 8)
    images = tmp_path / "images"
    (images / "inner").mkdir(parents=True)
    write_good(images, "good_00", 0)
    write_good(images / "inner", "good_01", 1)
    for name in ("picture.png", "notes.txt", ".hidden", "inner/x.txt"):
        (images / name).write_text("x")
    report = predict(place, images / "out", images=images)
    assert "5 found = 1 done + 0 finished before + 4 left out + 0 failed" in report.text
    assert "left out: 1 images in subfolders, which are not looked into: inner/good_01.nii.gz" in report.text
    assert "files that are no images by their ending (.png): picture.png" in report.text
    again = predict(place, images / "out", images=images)  # its own label maps are not found
    assert "5 found = 0 done + 1 finished before + 4 left out + 0 failed" in again.text
    results = json.loads((images / "out" / "run.json").read_text())["results"]
    assert results["found"] == results["finished_before"] + results["left_out"]
    assert sum(map(len, results["left_out_because"].values())) == results["left_out"]


def test_two_images_of_one_name_cost_that_case(place: Workspace, tmp_path: Path) -> None:
    images, out = tmp_path / "images", tmp_path / "out"
    images.mkdir()
    for number in range(2):
        write_good(images, f"good_{number:02d}", number)
    (images / "good_01.nrrd").write_bytes(b"whatever")
    report = predict(place, out, images=images)
    assert "2 found = 1 done + 0 finished before + 0 left out + 1 failed" in report.text
    assert [row["status"] for row in rows_of(out)] == ["ok", "failed"]
    assert "good_01.nii.gz and good_01.nrrd. Keep one." in report.text


def test_references_that_cannot_be_compared_with_cost_only_the_scores(place: Workspace, tmp_path: Path) -> None:
    images, labels = tmp_path / "ds" / "imagesTs", tmp_path / "ds" / "labelsTs"
    images.mkdir(parents=True)
    labels.mkdir()
    write_good(images, "good_00", 0)
    write_label_map(Volume(np.ones(GRID.shape, np.uint8), GRID), labels / "good_00.nii.gz", GRID)
    (tmp_path / "ds" / "dataset.json").write_text("{")
    report = predict(place, tmp_path / "out", images=images)
    assert "1 label maps, 0 failed cases" in report.text
    assert f"not scored: {tmp_path / 'ds' / 'dataset.json'}: " in report.text
    assert report.failed
    assert json.loads((tmp_path / "out" / "run.json").read_text())["results"]["done"] == 1


def test_a_label_map_whose_image_is_gone_is_told(place: Workspace, tmp_path: Path) -> None:
    images, out = tmp_path / "images", tmp_path / "out"
    for number in range(2):
        write_good(images, f"good_{number:02d}", number)
    assert "earlier run" not in predict(place, out, images=images).text
    (images / "good_01.nii.gz").unlink()
    assert "of an earlier run, without an image now: good_01.nii.gz" in predict(place, out, images=images).text
    assert (out / "good_01.nii.gz").exists()


def test_a_folder_without_images_says_what_is_in_it(place: Workspace, tmp_path: Path) -> None:
    images = tmp_path / "images"
    write_good(images / "inner", "good_00", 0)
    (images / "a.png").write_text("x")
    with pytest.raises(PipelineError, match=r"no image found; .*\n.*1 files .*\(\.png\)\n.*1 images in subfolders"):
        predict(place, tmp_path / "out", images=images)
    with pytest.raises(PipelineError, match=r"good_00\.nii\.gz: a file, expected a folder of images; give .*inner"):
        predict(place, tmp_path / "out", images=images / "inner" / "good_00.nii.gz")


def test_an_output_folder_that_cannot_be_one_is_refused_before_the_model_is_loaded(
    place: Workspace, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("x")
    for out in (tmp_path / "file", tmp_path / "file" / "deeper"):
        with pytest.raises(PipelineError, match=r"file: is no folder, but the output is to be written into it"):
            predict(place, out, foundation="not there")
    assert (tmp_path / "file").read_text() == "x"


def test_prompts_beside_their_images_are_not_left_out(place: Workspace, tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    write_good(images, "good_00", 0)
    write_clicks(images / "clicks.json")
    report = predict(place, tmp_path / "out", images=images, prompts=images)
    assert "1 found = 1 done + 0 finished before + 0 left out + 0 failed" in report.text


@pytest.mark.parametrize("content", [b"garbage", b""])
def test_a_label_map_that_was_replaced_is_neither_believed_nor_lost(
    place: Workspace, undisturbed: Path, tmp_path: Path, content: bytes
) -> None:
    out = shutil.copytree(undisturbed, tmp_path / "out")
    (out / "good_02.nii.gz").write_bytes(content)
    report = predict(place, out)
    assert "0 done + 21 finished before + 0 left out + 9 failed" in report.text
    assert f"good_02: {out / 'good_02.nii.gz'}: changed since it was written" in report.text
    assert (out / "good_02.nii.gz").read_bytes() == content
    (out / "good_02.nii.gz").unlink()
    predict(place, out)
    assert result_of(out) == result_of(undisturbed)


@pytest.mark.parametrize("fault", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_ends_the_run_and_keeps_what_is_done(
    place: Workspace, undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: int
) -> None:
    out, whole = tmp_path / "out", write_label_map
    monkeypatch.setattr(case_files, "write_label_map", Counted(whole, 8, OSError(fault, os.strerror(fault))))
    with pytest.raises(PipelineError, match=r"the disk is full\. 7 of 30 cases are finished"):
        predict(place, out)
    maps, rows = result_of(out)
    assert len(maps) == 7
    assert len(rows) == 7 + len(REASONS)
    monkeypatch.setattr(case_files, "write_label_map", whole)
    predict(place, out)
    assert result_of(out) == result_of(undisturbed)


def test_a_file_that_comes_in_the_way_costs_one_case(
    place: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs, segment = tmp_path / "out" / "good_03.nii.gz", segment_case

    def meanwhile(*arguments: Any) -> Any:
        theirs.write_text("by hand")
        return segment(*arguments)

    monkeypatch.setattr(case_files, "segment_case", meanwhile)
    report = predict(place, tmp_path / "out")
    assert "21 label maps, 9 failed cases" in report.text
    assert f"good_03: {theirs}: is in the way and was not written by moe" in report.text
    assert theirs.read_text() == "by hand"


def test_several_processes_say_the_same_also_when_one_was_killed(
    place: Workspace, undisturbed: Path, tmp_path: Path
) -> None:
    def kill_one(stage: str, done: float, total: float) -> None:
        if stage == "predicting" and 12 < done < total:
            for process in active_children():
                process.kill()

    with pytest.raises(PipelineError, match="ended by the system"):
        predict_and_score(place, options(place, tmp_path / "out", jobs=2), kill_one)
    assert not active_children()
    assert len(rows_of(tmp_path / "out")) >= 13
    assert predict(place, tmp_path / "out", jobs=2).failed
    assert result_of(tmp_path / "out") == result_of(undisturbed)


def test_jobs_are_for_the_processor(place: Workspace, tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match="--jobs 2 is for the processor"):
        predict(place, tmp_path / "out", jobs=2, device="cuda")


def test_the_next_case_is_read_meanwhile_and_no_more(
    place: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, answer = CaseFiles.read, CaseFiles.answer
    begun: list[str] = []
    new = threading.Event()
    seen: list[tuple[int, int]] = []

    def reading(self: CaseFiles, task: Any) -> Any:
        begun.append(task.case)
        new.set()
        return read(self, task)

    def answering(self: CaseFiles, model: Any, ready: Any) -> Any:
        if not isinstance(ready, case_files.Outcome):
            position = begun.index(ready.task.case)
            while len(begun) < min(position + 2, N_GOOD + len(REASONS)) and new.wait(10):
                new.clear()
            seen.append((position, len(begun)))
        return answer(self, model, ready)

    monkeypatch.setattr(CaseFiles, "read", reading)
    monkeypatch.setattr(CaseFiles, "answer", answering)
    predict(place, tmp_path / "out")
    last = N_GOOD + len(REASONS)
    assert [n_begun for _, n_begun in seen] == [min(position + 2, last) for position, _ in seen]


def test_dicom_in_and_dicom_out(place: Workspace, tmp_path: Path, dicom_phantoms: Any) -> None:
    pytest.importorskip("highdicom")
    images = tmp_path / "images"
    dicom_phantoms.write_series(images / "series", (10, 14, 18, 22))
    write_good(images, "plain", 1)
    clicks = {"class_id": 3, "class_name": "noise", "points": [[2, 2, 2]], "labels": [1]}
    other = {**clicks, "class_id": 5}
    prompts = tmp_path / "clicks.json"
    prompts.write_text(json.dumps({"space": "voxel_xyz", "cases": {"series": [clicks, other], "plain": [clicks]}}))
    given = {"images": images, "prompts": prompts, "dicom_seg": True}
    report = predict(place, tmp_path / "out", **given)
    assert not report.failed, report.text
    out = {path.name for path in (tmp_path / "out").iterdir()}
    assert out == {"series.nii.gz", "series.dcm", "plain.nii.gz", "clicks", "cases.csv", "finished.jsonl", "run.json"}
    assert [case for case, _ in list_label_maps(tmp_path / "out")] == ["plain", "series"]
    labels = read_label_map(tmp_path / "out" / "series.nii.gz")
    found = open_label_file(tmp_path / "out" / "series.dcm")
    assert found.kind == "SEG"
    assert set(found.names) <= {"noise (3)", "noise (5)"}
    native = read_geometry(images / "series")
    for structure in read_structures(tmp_path / "out" / "series.dcm", native):
        value = 3 if structure.name == "noise (3)" else 5
        assert structure.part.sum() == (labels.array == value).sum()


def test_header_and_voxels_of_a_case_are_read_once(
    place: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "images").mkdir()
    write_good(tmp_path / "images", "good_00", 0)
    reads = Counted(nifti_header.parse)
    monkeypatch.setattr("moe_pipeline.imaging.io.nifti.parse", reads)
    assert not predict(place, tmp_path / "out", images=tmp_path / "images").failed
    assert reads.calls == 1
