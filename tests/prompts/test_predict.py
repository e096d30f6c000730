"""From files of prompts to label maps and rows."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk

from moe_pipeline.cli import main
from moe_pipeline.inference.batch.folder import predict_folder
from moe_pipeline.inference.keywords import predict_options
from moe_pipeline.mixture.model import Expert, Mixture
from moe_pipeline.records.prompts import PromptFile
from tests.phantoms.foundations import decoder_of
from tests.phantoms.images import write_file


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Three images with a bright ball around voxel (6, 7, 8)."""
    folder = tmp_path / "images"
    folder.mkdir()
    x, y, z = np.indices((16, 16, 16))
    ball = (x - 6) ** 2 + (y - 7) ** 2 + (z - 8) ** 2 <= 16
    for name in "abc":
        turned = (-1.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0, 0.0, 1.0)
        write_file(folder / f"{name}.nii.gz", (100 * ball).astype(np.float32), origin=(10, -20, 30), direction=turned)
    return folder


def test_each_case_has_its_prompts_or_its_reason(follower: Mixture, images: Path, tools: Any, tmp_path: Path) -> None:
    place = sitk.ReadImage(str(images / "a.nii.gz")).TransformIndexToPhysicalPoint((6, 7, 8))
    folder = tmp_path / "prompts"
    folder.mkdir()
    tools.slicer_json(folder / "a.mrk.json", [place], ["ball-1"])
    (folder / "b.csv").write_text("axis-0,axis-1\n1,2\n")
    rows = predict_folder(follower, predict_options(images, tmp_path / "out", prompts=folder)).rows
    assert [(row.case, row.status, row.class_id, row.class_name) for row in rows] == [
        ("a", "ok", 1, "ball"),
        ("b", "failed", None, ""),
        ("c", "failed", None, ""),
    ]
    assert "b.csv: no points of a 3D layer of napari" in rows[1].message
    assert "c: no prompts in" in rows[2].message
    found = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "out" / "a.nii.gz")))
    assert found[8, 7, 6] == 1
    assert 100 < found.sum() < 500  # 257 voxels in low-resolution voxels of 8


def test_a_mask_is_a_prompt(follower: Mixture, images: Path, tmp_path: Path) -> None:
    image = sitk.ReadImage(str(images / "a.nii.gz"))
    earlier = sitk.Cast(image > 50, sitk.sitkUInt8) * 4
    (tmp_path / "masks").mkdir()
    sitk.WriteImage(earlier, str(tmp_path / "masks" / "a.nii.gz"))
    rows = predict_folder(follower, predict_options(images, tmp_path / "out", prompts=tmp_path / "masks")).rows
    assert [(row.case, row.status, row.class_id, row.prompt_source) for row in rows[:1]] == [("a", "ok", 4, "mask")]
    assert decoder_of(follower).asked == [(1, True)]


def test_a_class_has_the_id_that_the_model_knows_it_by(
    follower: Mixture, images: Path, tools: Any, tmp_path: Path
) -> None:
    decoder = follower.foundation.decoder
    expert = Expert("Dataset004_Hippo", follower.view, decoder, classes={1: "Anterior", 2: "Posterior"})
    folder = tmp_path / "prompts"
    folder.mkdir()
    tools.napari_csv(folder / "a.csv", [(6, 7, 8)], ["posterior-1"])
    tools.napari_csv(folder / "b.csv", [(6, 7, 8)], ["1 Posterior"])
    tools.napari_csv(folder / "c.csv", [(6, 7, 8)], ["cyst"])
    rows = predict_folder(
        replace(follower, experts=(expert,)), predict_options(images, tmp_path / "out", prompts=folder)
    ).rows
    assert [(row.case, row.status, row.class_id) for row in rows] == [
        ("a", "ok", 2),
        ("b", "failed", None),
        ("c", "ok", 3),
    ]
    assert "says 1 for 'Posterior', but the expert Dataset004_Hippo has 2 Posterior" in rows[1].message
    assert set(np.unique(sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "out" / "a.nii.gz"))))) == {0, 2}


def test_a_single_file_is_for_the_only_image(follower: Mixture, images: Path, tools: Any, tmp_path: Path) -> None:
    for name in "bc":
        (images / f"{name}.nii.gz").unlink()
    file = tools.napari_csv(tmp_path / "Points.csv", [(6, 7, 8)], ["ball"])
    (row,) = predict_folder(follower, predict_options(images, tmp_path / "out", prompts=file)).rows
    assert (row.case, row.status) == ("a", "ok")


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str]:
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return int(ended.value.code or 0), captured.out + captured.err


def test_the_command_line_simulates_and_converts(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = tmp_path / "labels"
    labels.mkdir()
    for name in "ab":
        ball = sitk.ReadImage(str(images / f"{name}.nii.gz")) > 50
        sitk.WriteImage(ball, str(labels / f"{name}.nii.gz"))
    file = tmp_path / "prompts.json"
    simulate = ("prompts", "simulate", "--labels", labels, "-o", file, "--user", "centre")
    assert run(capsys, *simulate) == (0, f"{file}: written\n")
    assert PromptFile.load(file).made_by.startswith("simulated user centre, 1 click an object")
    out = tmp_path / "napari"
    convert = ("prompts", "convert", file, "--to", "napari", "-o", out, "--images", images)
    assert run(capsys, *convert) == (0, f"{out}: written\n")
    assert (out / "a.csv").read_text().splitlines() == ["index,axis-0,axis-1,axis-2,label", "0,8.0,7.0,6.0,1 #1 pos-1"]
    code, text = run(capsys, "prompts", "simulate", "--labels", labels, "-o", file, "--user", "error")
    assert code == 1
    assert text.startswith("error: the simulated user 'error' clicks where a prediction is wrong")
    code, text = run(capsys, "prompts", "convert", file, "--to", "xml", "-o", out)
    assert (code, "--to xml: cannot be written" in text) == (1, True)
