import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from dataset_conversion.checking.check import check
from dataset_conversion.checking.findings_text import as_table
from dataset_conversion.convert import convert
from moe_pipeline.datasets.accounting import Handled, account_for, walk
from moe_pipeline.errors import DatasetError
from moe_pipeline.planning.plan_dataset import plan_dataset
from moe_pipeline.records.cases import Accounting, LeftOut
from moe_pipeline.records.check import CheckReport
from moe_pipeline.records.dataset import ConversionReport
from moe_pipeline.records.planning import Fingerprint

MakeDataset = Callable[..., Path]


def sums(accounting: tuple[Accounting, ...]) -> dict[str, tuple[int, int, dict[str, int]]]:
    return {
        one.of: (one.found, one.used, {left.reason.split(" (")[0]: left.count for left in one.left_out})
        for one in accounting
    }


def test_numbers_that_do_not_add_up_are_no_record() -> None:
    left = (LeftOut(reason="empty", count=2, examples=("a", "b")),)
    assert Accounting(of="cases", found=5, used=3, left_out=left).lines() == [
        "cases: 5 found = 3 used + 2 left out",
        "  2 empty: a, b",
    ]
    with pytest.raises(ValidationError, match=r"6 found, but 3 used \+ 2 left out"):
        Accounting(of="cases", found=6, used=3, left_out=left)


def spoiled(source: Path) -> Path:
    """Six cases, of which three are whole; a file of every kind that fits no rule."""
    images, labels = source / "imagesTr", source / "labelsTr"
    (images / "p003_0000.nii.gz").rename(images / "p003_0000.NII.GZ")
    (labels / "p003.nii.gz").rename(labels / "p003.NII.GZ")
    for path in (images / "p004_0000.nii.gz", labels / "p004.nii.gz"):
        path.unlink()
        path.symlink_to("../.git/annex/objects/" + path.name)
    (images / "p005_0000.nii.gz").rename(images / "p005.nii.gz")
    (images / "p002_0000.mgz").write_bytes(b"x")
    (source / "readme.txt").write_text("hello")
    (source / "._dataset.json").write_bytes(b"\0")
    (source / "__MACOSX").mkdir()
    (source / "__MACOSX" / "._x").write_bytes(b"\0")
    (source / ".git").mkdir()
    (source / ".git" / "config").write_bytes(b"\0")
    return source


def test_convert_check_and_plan_count_alike_and_lose_nothing(tmp_path: Path, make_phantom_dataset: MakeDataset) -> None:
    source = spoiled(make_phantom_dataset(tmp_path / "Dataset001_P", 6))
    n_files = sum(not path.is_dir() for path in source.rglob("*")) - 2  # __MACOSX and .git
    report = convert(source, tmp_path / "out")
    cases, files = report.accounting
    assert cases.used == 3
    assert files.found == n_files == 16
    assert files.used == 7  # three images, three labels, dataset.json
    assert sums(report.accounting)["files"][2] == {
        "images that belong to no case by their names": 4,
        "links to files that are not there": 2,
        "hidden files": 1,
        "files that are not read": 1,
        "files that are no images": 1,
    }
    failed = {row.case_id: row.message for row in report.failed}
    assert "does not end in .nii.gz" in failed["p003_0000.NII.GZ"]
    assert "does not end in .nii.gz" in failed["p003.NII.GZ"]
    assert "a link to ../.git/annex/objects/p004_0000.nii.gz, which is not there" in failed["p004"]
    assert "no channel number" in failed["p005.nii.gz"]
    assert "p005.nii.gz: a label without image" in failed["p005"]
    assert cases.found == cases.used + len(failed)
    assert ConversionReport.load(tmp_path / "out" / "conversion.json").accounting == report.accounting

    checked = check(source, tmp_path / "check")
    assert checked.accounting[1] == files
    assert checked.accounting[0].used == 3
    assert CheckReport.load(tmp_path / "check" / "check.json").accounting == checked.accounting
    assert f"files: {n_files} found = 7 used + 9 left out" in as_table(checked)
    assert f"files: {n_files} found = 7 used + 9 left out" in (tmp_path / "check" / "check.txt").read_text()

    with pytest.raises(DatasetError, match=r"does not end in \.nii\.gz"):
        plan_dataset(source, tmp_path / "plans")
    made = plan_dataset(source, tmp_path / "plans", leave_out_faulty=True)
    assert made.fingerprint.accounting[1] == files
    assert made.fingerprint.accounting[0].used == 3
    assert f"  files: {n_files} found = 7 used + 9 left out" in made.summary().splitlines()
    assert Fingerprint.load(tmp_path / "plans" / "fingerprint.json") == made.fingerprint


def test_cases_that_are_counted_but_not_there_are_left_out(tmp_path: Path, make_phantom_dataset: MakeDataset) -> None:
    source = make_phantom_dataset(tmp_path / "Dataset001_P", 3)
    description = json.loads((source / "dataset.json").read_text())
    (source / "dataset.json").write_text(json.dumps(description | {"numTraining": 100}))
    report = convert(source, tmp_path / "out")
    assert "numTraining counts 100 training cases, of which 97 are not here" in report.warnings[0]
    assert "warning: 97 training cases that dataset.json counts" in plan_dataset(source, tmp_path / "p").summary()
    for accounting in (
        report.accounting,
        check(source, tmp_path / "check").accounting,
        plan_dataset(source, tmp_path / "plans").fingerprint.accounting,
    ):
        (cases, _) = accounting
        assert (cases.found, cases.used) == (100, 3)
        assert cases.left_out[0].reason.startswith("counted by numTraining in dataset.json, but not here")


def test_more_cases_than_are_counted_are_told(tmp_path: Path, make_phantom_dataset: MakeDataset) -> None:
    source = make_phantom_dataset(tmp_path / "Dataset001_P", 3)
    description = json.loads((source / "dataset.json").read_text())
    (source / "dataset.json").write_text(json.dumps(description | {"numTraining": 2}))
    assert "numTraining counts 2 training cases, but 3 are here" in convert(source, tmp_path / "out").warnings[0]


def test_v1_takes_the_cases_that_are_listed_and_names_the_others(
    tmp_path: Path, make_phantom_dataset: MakeDataset
) -> None:
    source = make_phantom_dataset(tmp_path / "Task001_P", 4)
    shutil.copytree(source / "labelsTr", source / "labelsTr2")
    listed = [{"image": f"./imagesTr/p00{n}.nii.gz", "label": f"./labelsTr/p00{n}.nii.gz"} for n in (0, 1, 9)]
    listed[1]["label"] = ".\\labelsTr2\\p001.nii.gz"
    base = {"modality": {"0": "CT"}, "labels": {"0": "background", "1": "ball", "3": "bar"}, "numTraining": 3}
    (source / "dataset.json").write_text(json.dumps(base | {"training": listed}))
    report = convert(source, tmp_path / "out")
    assert {row.case_id: row.status for row in report.rows} == {
        **{"p000": "converted", "p001": "converted", "p002": "failed", "p003": "failed", "p009": "failed"}
    }
    messages = {row.case_id: row.message for row in report.rows}
    told = (
        "dataset.json lists 1 labels such as ./labelsTr2/p001.nii.gz; those of labelsTr are taken, as nnU-Net v1 does"
    )
    assert told in report.notes
    assert messages["p002"] == "not listed in dataset.json for training, but its files are there"
    assert messages["p009"] == "listed in dataset.json, but imagesTr/p009_0000.nii.gz is not there"
    assert sums(report.accounting)["cases"][:2] == (5, 2)


@pytest.mark.parametrize("closed", ["imagesTs", "p9"])
def test_closed_folders_are_named(
    tmp_path: Path, make_phantom_dataset: MakeDataset, monkeypatch: pytest.MonkeyPatch, closed: str
) -> None:
    source = make_phantom_dataset(tmp_path / "Dataset001_P", 3)
    (source / closed).mkdir()
    real = os.scandir

    def scandir(path: str | Path = ".") -> Any:
        if Path(path).name == closed:
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)  # tests may run as root, who opens everything
    report = convert(source, tmp_path / "out")
    (row,) = report.failed
    assert row.case_id == closed
    assert "folders that cannot be opened (Permission denied)" in row.message
    assert (closed,) in [left.examples for left in report.accounting[1].left_out]


@pytest.mark.parametrize("layout", ["pairs", "nnunet_v2", "msd"])
def test_a_folder_that_may_be_listed_and_not_entered_costs_what_is_in_it(
    tmp_path: Path, make_phantom_dataset: MakeDataset, monkeypatch: pytest.MonkeyPatch, layout: str
) -> None:
    source = make_phantom_dataset(tmp_path / "Dataset001_P", 3)
    entry = {"image": "closed/x.nii.gz", "label": "closed/y.nii.gz"}
    description = json.loads((source / "dataset.json").read_text())
    if layout == "pairs":
        (source / "dataset.json").unlink()
    elif layout == "msd":
        cases = [{"image": f"imagesTr/p00{n}_0000.nii.gz", "label": f"labelsTr/p00{n}.nii.gz"} for n in range(3)]
        labels = {"0": "background", "1": "ball", "2": "x", "3": "bar"}
        msd = {"modality": {"0": "CT"}, "labels": labels, "training": [*cases, entry], "test": []}
        (source / "dataset.json").write_text(json.dumps(msd))
    else:
        listed = {
            f"p00{n}": {"images": [f"imagesTr/p00{n}_0000.nii.gz"], "label": f"labelsTr/p00{n}.nii.gz"}
            for n in range(3)
        }
        listed["p9"] = {"images": [entry["image"]], "label": entry["label"]}
        (source / "dataset.json").write_text(json.dumps(description | {"dataset": listed}))
    (source / "closed").mkdir()
    for name in ("x.nii.gz", "y.nii.gz", "dataset.json"):
        (source / "closed" / name).write_text("{}")
    real = Path.stat

    def stat(self: Path, **options: Any) -> Any:
        if self.parent.name == "closed":
            raise PermissionError(13, "Permission denied", str(self))
        return real(self, **options)

    monkeypatch.setattr(Path, "stat", stat)
    report = convert(source, tmp_path / "out", None if layout == "pairs" else layout)
    assert sum(row.status == "converted" for row in report.rows) == 3
    assert report.failed
    assert "files that cannot be opened (Permission denied)" in {one.reason for one in report.accounting[1].left_out}


@pytest.mark.parametrize("seed", range(20))
def test_random_folders_add_up(tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    words = ["a.nii.gz", "b.NII", "c.mgz", "._d.nii", "e.txt", "f", "g.nrrd", "h.tif"]
    for _ in range(30):
        folder = tmp_path / "/".join(rng.choice(["x", "y", ".z"], int(rng.integers(0, 3))))
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{rng.integers(0, 9)}{rng.choice(words)}"
        if not path.exists() and not path.is_symlink():
            path.symlink_to("nowhere") if rng.random() < 0.2 else path.write_bytes(b"")
    seen = [path for path in tmp_path.rglob("*") if (path.is_symlink() or path.is_file()) and ".z" not in path.parts]
    images = [path for path in seen if path.suffix == ".gz"]
    used = {str(number): (path,) for number, path in enumerate(images) if rng.random() < 0.5}
    cases, files = account_for(tmp_path, walk(tmp_path), Handled(used, {"lost": "why"}, {}))
    assert (cases.found, cases.used) == (len(used) + 1, len(used))
    assert files.found == len(seen)
    assert files.used == len(used)
