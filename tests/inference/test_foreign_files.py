"""An output folder that holds somebody's files: whatever happens, none of them is changed or lost."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from moe_pipeline.commands.predict import PredictReport, predict_and_score
from moe_pipeline.errors import PipelineError
from moe_pipeline.imaging.geometry import Geometry
from moe_pipeline.imaging.io.files import read_label_map, write_image, write_label_map
from moe_pipeline.imaging.volume import Volume
from moe_pipeline.inference.keywords import predict_options
from moe_pipeline.model.sam.foundation import SamFoundation
from moe_pipeline.records.foundation import View
from moe_pipeline.workspace import Workspace
from tests.phantoms.foundations import save_tiny

GRID = Geometry((14, 12, 10), (1.0, 1.0, 2.0))
CASES = ("good", "lost", "other")  # the clicks of the second one lie outside
NAMES = (
    *(f"{case}{ending}" for case in CASES for ending in (".nii.gz", ".dcm", ".json", ".nrrd")),
    *(f"uncertainty/{case}.nii.gz" for case in CASES),
    *(f"probabilities/{case}/{value}.nii.gz" for case in CASES for value in (1, 3)),
    "probabilities/good/notes.txt",
    "cases.csv",
    "dice.csv",
    "run.json",
    "finished.jsonl",
    "notes.txt",
    ".123.tmp.good.nii.gz",
    "uncertainty",
    "probabilities/good",
)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, tiny_foundation: SamFoundation) -> Workspace:
    place = Workspace(tmp_path_factory.mktemp("foreign"))
    view = View(spacing_mm=1.0, size_voxels=16)
    save_tiny(tiny_foundation, place.weights, view)
    mask = np.zeros(GRID.shape, np.uint8)
    mask[3:9, 3:9, 2:8] = 3
    for seed, case in enumerate(CASES):
        noise = np.random.default_rng(seed).normal(100, 20, GRID.shape).astype(np.float32)
        write_image(Volume(noise, GRID), place.root / "images" / f"{case}.nii.gz", GRID)
        write_label_map(Volume(mask, GRID), place.root / "masks" / f"{case}.nii.gz", GRID)
    objects = {
        case: [{"class_id": 3, "points": [[6, 60 if case == "lost" else 6, 4]], "labels": [1]}] for case in CASES
    }
    (place.root / "clicks.json").write_text(json.dumps({"space": "voxel_xyz", "cases": objects}))
    return place


def predict(place: Workspace, out: Path, **more: Any) -> PredictReport:
    given = {"images": place.root / "images", "prompts": place.root / "clicks.json", "foundation": "tiny"}
    return predict_and_score(place, predict_options(**{**given, "out": out, **more}))


def contents(folder: Path) -> dict[str, bytes | str]:
    """Every file of a folder, links by where they lead."""
    paths = sorted(path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir())
    return {
        str(path.relative_to(folder)): os.readlink(path) if path.is_symlink() else path.read_bytes()  # noqa: PTH115
        for path in paths
    }


def scatter(random: np.random.Generator, folder: Path, elsewhere: Path) -> None:
    """Put files, empty files, links and folders under some of the names that we might use."""
    for name in random.permutation(np.array(NAMES))[: random.integers(1, 8)]:
        path = folder / name
        if os.path.lexists(path) or any(part.is_file() or part.is_symlink() for part in path.parents):
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        kind = random.choice(["text", "empty", "link", "folder"])
        if kind == "link":
            path.symlink_to(elsewhere / random.choice(["real", "nowhere"]))
        elif kind == "folder":
            path.mkdir()
            (path / "inside").write_text("theirs")
        else:
            path.write_bytes(random.bytes(20) if kind == "text" else b"")


@pytest.mark.parametrize("seed", range(24))
def test_no_file_that_was_there_is_changed_or_lost(place: Workspace, tmp_path: Path, seed: int) -> None:
    random = np.random.default_rng(seed)
    out = tmp_path / "out"
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "real").write_text("theirs")
    has_run = bool(random.integers(2))
    more: dict[str, Any] = {
        name: bool(random.integers(2)) for name in ("save_probabilities", "uncertainty", "overwrite")
    }
    if random.integers(2):
        more |= {"references": place.root / "masks"}
    if has_run:
        predict(place, out, **{**more, "overwrite": False})
        for name in list(contents(out)):
            if random.random() < 0.2:
                (out / name).unlink()  # somebody takes it away, and perhaps puts a file of theirs there
    ours = contents(out)
    scatter(random, out, tmp_path / "elsewhere")
    theirs = {name: what for name, what in contents(tmp_path).items() if name.removeprefix("out/") not in ours}
    for _ in range(2):
        try:
            predict(place, out, **more)
        except PipelineError as error:
            assert "is in the way" in str(error)  # noqa: PT017 - refusing is one of two right answers
        now = contents(tmp_path)
        assert theirs == {name: now.get(name) for name in theirs}


@pytest.mark.parametrize("name", ["good.nii.gz", "lost.nii.gz", "cases.csv", "run.json", "dice.csv", "finished.jsonl"])
def test_a_foreign_file_is_named_before_anything_is_written(place: Workspace, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("theirs")
    with pytest.raises(PipelineError, match=rf"{name}: is in the way and was not written by moe.*\(-o or --out\)"):
        predict(place, tmp_path, references=place.root / "masks")
    assert contents(tmp_path) == {name: b"theirs"}


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_label_map_that_was_corrected_by_hand_stays(place: Workspace, tmp_path: Path, overwrite: bool) -> None:
    predict(place, tmp_path)
    shutil.copy(place.root / "masks" / "good.nii.gz", tmp_path / "good.nii.gz")
    if overwrite:
        with pytest.raises(PipelineError, match=r"good\.nii\.gz: is in the way"):
            predict(place, tmp_path, overwrite=True)
    else:
        predict(place, tmp_path)  # it is done
    assert (tmp_path / "good.nii.gz").read_bytes() == (place.root / "masks" / "good.nii.gz").read_bytes()


def test_the_folder_of_mask_prompts_is_no_output_folder(place: Workspace, tmp_path: Path) -> None:
    masks = shutil.copytree(place.root / "masks", tmp_path / "masks")
    (tmp_path / "link").symlink_to(masks)
    before = contents(masks)
    for out in (masks, tmp_path / "link"):
        with pytest.raises(PipelineError, match="is one of the inputs"):
            predict(place, out, prompts=masks)
    assert contents(masks) == before


def test_an_earlier_answer_is_not_replaced_while_it_is_the_prompt(place: Workspace, tmp_path: Path) -> None:
    predict(place, tmp_path)
    write_label_map(read_label_map(place.root / "masks" / "good.nii.gz"), tmp_path / "prompt.nii.gz", GRID)
    before = (tmp_path / "good.nii.gz").read_bytes()
    with pytest.raises(PipelineError, match="is one of the inputs"):
        predict(place, tmp_path, prompts=tmp_path / "good.nii.gz", overwrite=True)
    assert (tmp_path / "good.nii.gz").read_bytes() == before
