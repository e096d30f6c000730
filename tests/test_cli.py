"""Every command with nonsense: exit code 1 or 2, one readable message naming the file, no traceback."""

import gzip
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from moe_pipeline.cli import main
from moe_pipeline.errors import PipelineError
from moe_pipeline.imaging.geometry import Geometry
from moe_pipeline.imaging.io.files import write_image, write_label_map
from moe_pipeline.imaging.volume import Volume
from moe_pipeline.model.sam.foundation import SamFoundation
from moe_pipeline.records.foundation import View
from moe_pipeline.weights.training_state import save_training_state
from tests.phantoms.foundations import save_tiny

IDENTITY = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
GRID = Geometry((12, 10, 8), (1.0, 1.0, 2.0), (0.0, 0.0, 0.0), IDENTITY)


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    """Exit code and everything printed."""
    with pytest.raises(SystemExit) as stop:
        main(list(arguments))
    captured = capsys.readouterr()
    code = stop.value.code
    return (code if isinstance(code, int) else 0), captured.out + captured.err


def write_case(folder: Path, case: str, *, grid: Geometry = GRID, label: bool = True) -> None:
    image = np.random.default_rng(0).normal(100, 10, GRID.shape).astype(np.float32)
    write_image(Volume(image, GRID), folder / "imagesTr" / f"{case}_0000.nii.gz", GRID)
    if label:
        mask = np.zeros(grid.shape, np.uint8)
        mask[3:8, 3:8, 2:6] = 1
        write_label_map(Volume(mask, grid), folder / "labelsTr" / f"{case}.nii.gz", grid)


def write_json(folder: Path, cases: int) -> None:
    content = {
        "channel_names": {"0": "MR"},
        "labels": {"background": 0, "organ": 1},
        "numTraining": cases,
        "file_ending": ".nii.gz",
    }
    (folder / "dataset.json").write_text(json.dumps(content))


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    folder = tmp_path / "elsewhere" / "Dataset007_Cubes"
    for number in range(6):
        write_case(folder, f"case_{number}")
    write_json(folder, 6)
    return folder


@pytest.mark.parametrize(
    "arguments",
    [
        ["convert", "{missing}", "--out", "Dataset001_X"],
        ["plan", "{missing}"],
        ["finetune", "{missing}"],
        ["train-gate", "{missing}"],
        ["predict", "-i", "{missing}", "-o", "{out}", "--labels", "{missing}", "--foundation", "none"],
        ["evaluate", "-i", "{missing}", "-r", "{missing}"],
        ["weights", "import", "{missing}"],
        ["weights", "verify", "{missing}"],
    ],
    ids=lambda arguments: arguments[0] + "-" + arguments[1].strip("{}-"),
)
def test_a_missing_input_is_named(capsys: pytest.CaptureFixture[str], tmp_path: Path, arguments: list[str]) -> None:
    missing = tmp_path / "nowhere"
    filled = [a.format(missing=missing, out=tmp_path / "out") for a in arguments]
    code, text = run(capsys, *filled, *([] if arguments[0] == "evaluate" else ["--workspace", str(tmp_path / "ws")]))
    assert code == 1
    assert text.startswith("error: ")
    assert "nowhere" in text or "none" in text
    assert "Traceback" not in text
    assert not (tmp_path / "out").exists()


def write_raw_source(folder: Path) -> Path:
    """A folder that `moe convert` recognises."""
    for number in range(2):
        write_case(folder, f"case_{number}")
    write_json(folder, 2)
    return folder


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ("predict -i {raw}/imagesTr -o {file} --labels {raw}/labelsTr --foundation {weights}", "{file}"),
        ("convert {raw} --out {file}/Dataset008_X", "{file}"),
        ("evaluate -i {raw}/labelsTr -r {raw}/labelsTr -o {file}/out", "{file}"),
        ("pretrain --out {file}/out --max-minutes 0.01", "{file}"),
        ("pretrain --device gpu", "'gpu'"),
        ("pretrain --frozen-encoder", "start"),
        ("pretrain --device cuda:99", "cuda:99"),
        ("weights import {file} --config {tmp}/none.json", "none.json"),
        ("weights import {file} --config {broken}", "broken.json"),
    ],
)
def test_what_is_in_the_way_is_named(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    tiny_foundation: SamFoundation,
    monkeypatch: pytest.MonkeyPatch,
    arguments: str,
    named: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    save_tiny(tiny_foundation, tmp_path, View(spacing_mm=2, size_voxels=16))
    names = {"raw": "raw", "file": "file", "broken": "broken.json", "weights": "tiny.safetensors", "tmp": "."}
    places = {key: tmp_path / name for key, name in names.items()}
    write_raw_source(places["raw"])
    places["file"].write_text("in the way")
    places["broken"].write_text("{")
    code, text = run(capsys, *(word.format(**places) for word in arguments.split()))
    assert code == 1
    assert text.startswith("error: ")
    assert named.format(**places) in text
    assert "Traceback" not in text
    assert places["file"].read_text() == "in the way"


def test_a_slip_does_not_cost_the_earlier_pretraining(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    checkpoint = tmp_path / "checkpoint.safetensors"
    checkpoint.write_text("hours of work")
    for slip in (["--device", "gpu"], ["--preset", "nono"]):
        code, _ = run(capsys, "pretrain", "--out", str(tmp_path), "--overwrite", *slip)
        assert code == 1
        assert checkpoint.exists()


def test_pretraining_anew_removes_the_old_checkpoint(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pretrain(out: Path, *_: object) -> None:
        raise PipelineError(f"checkpoint: {(out / 'checkpoint.safetensors').exists()}")

    monkeypatch.setattr("moe_pipeline.training.pretrain.pretrain_foundation", pretrain)
    save_training_state(tmp_path / "checkpoint.safetensors", {}, [], {})
    assert "checkpoint: True" in run(capsys, "pretrain", "--out", str(tmp_path))[1]
    assert "checkpoint: False" in run(capsys, "pretrain", "--out", str(tmp_path), "--overwrite")[1]


def write_labels(folder: Path, **values: int) -> Path:
    for case, value in values.items():
        mask = np.zeros(GRID.shape, np.uint8)
        mask[3:8, 3:8, 2:6] = value
        write_label_map(Volume(mask, GRID), folder / f"{case}.nii.gz", GRID)
    return folder


def test_references_without_names_are_scored_by_value(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    predictions = write_labels(tmp_path / "predictions", one=2, two=5, three=2)
    references = write_labels(tmp_path / "references", one=2, two=2)
    code, text = run(capsys, "evaluate", "-i", str(predictions), "-r", str(references))
    assert code == 0
    assert "class 2" in text
    assert len(list(tmp_path.rglob("*"))) == 7  # two folders, five label maps: nothing is written without -o
    assert "two: label 5 is not in the class map" in text
    assert "three: " in text
    assert "no reference of this name" in text


def test_nothing_scored_is_a_failure(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    predictions = write_labels(tmp_path / "predictions", one=0)
    references = write_labels(tmp_path / "references", one=0)
    code, text = run(capsys, "evaluate", "-i", str(predictions), "-r", str(references))
    assert code == 1
    assert "error: nothing was scored" in text


@pytest.mark.parametrize("command", ["convert", "plan", "finetune", "train-gate", "predict", "evaluate", "doctor"])
def test_an_unknown_option_is_wrong_usage(capsys: pytest.CaptureFixture[str], command: str) -> None:
    code, text = run(capsys, command, "--wrokspace", "x")
    assert code == 2
    assert "--wrokspace" in text


def test_an_empty_folder_is_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    code, text = run(capsys, "convert", str(empty), "--out", str(tmp_path / "out" / "Dataset001_X"))
    assert code == 1
    assert f"{empty}: no known dataset layout" in text
    assert not (tmp_path / "out").exists()


def test_an_image_without_label_is_named(capsys: pytest.CaptureFixture[str], dataset: Path, tmp_path: Path) -> None:
    write_case(dataset, "lonely", label=False)
    code, text = run(capsys, "plan", str(dataset), "--workspace", str(tmp_path / "ws"))
    assert code == 1
    assert "lonely_0000.nii.gz: an image without label" in text
    assert not list((tmp_path / "ws").rglob("plan.json"))


def test_a_label_on_another_grid_is_named(capsys: pytest.CaptureFixture[str], dataset: Path, tmp_path: Path) -> None:
    shifted = Geometry(GRID.shape, (1.0, 1.5, 2.0), GRID.origin_mm, IDENTITY)
    write_case(dataset, "crooked", grid=shifted)
    code, text = run(capsys, "plan", str(dataset), "--workspace", str(tmp_path / "ws"))
    assert code == 1
    assert "crooked" in text
    assert "spacing" in text


def test_a_corrupt_gzip_is_named(capsys: pytest.CaptureFixture[str], dataset: Path, tmp_path: Path) -> None:
    path = dataset / "imagesTr" / "case_3_0000.nii.gz"
    path.write_bytes(path.read_bytes()[:-200])
    code, text = run(capsys, "plan", str(dataset), "--workspace", str(tmp_path / "ws"))
    assert code == 1
    assert "case_3" in text
    path.write_bytes(gzip.compress(b"no image"))
    code, text = run(capsys, "plan", str(dataset), "--workspace", str(tmp_path / "ws"))
    assert code == 1
    assert "case_3" in text


def test_a_sound_dataset_is_planned_by_path_then_known_by_number(
    capsys: pytest.CaptureFixture[str], dataset: Path, tmp_path: Path
) -> None:
    code, text = run(capsys, "plan", str(dataset), "--workspace", str(tmp_path / "ws"))
    assert code == 0
    assert "Dataset007_Cubes: 6 cases, 1 classes" in text
    code, text = run(capsys, "plan", "7", "--explain", "--workspace", str(tmp_path / "ws"))
    assert code == 0
    assert "\nview " in text
    assert "the step that misses least" in text


def test_doctor_says_what_is_there(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, text = run(capsys, "doctor", "--workspace", str(tmp_path))
    assert code == 0
    assert "torch" in text
    assert "none: run `moe train-gate`" in text
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "moe.json").write_text("{}")
    _, text = run(capsys, "doctor", "--workspace", str(tmp_path))
    assert "workspace model          cannot be used: " in text


def test_help_needs_neither_torch_nor_pandas_nor_itk() -> None:
    program = (
        "import sys\nfrom moe_pipeline.cli import main\n"
        "try:\n    main(['plan', '--help'])\nexcept SystemExit as stop:\n    assert not stop.code\n"
        "print(sorted({'torch', 'pandas', 'SimpleITK', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, encoding="utf-8", check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_gallery_draws_a_sheet(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, _ = run(capsys, "gallery", "-o", str(tmp_path / "sheet.png"), "--count", "2", "--size", "32")
    assert code == 0
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.size == (4 * 2 * 3 * 32, 2 * 32)


def test_convert_takes_templates_and_a_label_map(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    source, classes = write_raw_source(tmp_path / "raw"), tmp_path / "map.json"
    (source / "dataset.json").unlink()
    classes.write_text('{"organ": 1}')
    words = ["--images", "imagesTr/{case}_0000.nii.gz", "--masks", "labelsTr/{case}.nii.gz", "--channels", "CT"]
    out = tmp_path / "new" / "Dataset001_X"
    code, text = run(capsys, "convert", str(source), "--out", str(out), *words, "--labels", str(classes))
    assert (code, "2 converted (pairs" in text) == (0, True)
    assert json.loads((out / "dataset.json").read_text())["labels"] == {"background": 0, "organ": 1}
    assert json.loads((out / "dataset.json").read_text())["channel_names"] == {"0": "CT"}
    classes.write_text('{"organ": "liver"}')
    code, text = run(capsys, "convert", str(source), "--out", str(out), *words, "--labels", str(classes))
    assert (code, "organ: the source has no 'liver' by name" in text) == (1, True)
