"""One bad case is a row with its reason; the others are scored."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from moe_pipeline.errors import DatasetError, ImageError
from moe_pipeline.evaluation import folder
from moe_pipeline.evaluation.folder import evaluate_folder
from moe_pipeline.evaluation.table import n_failed, read_table
from moe_pipeline.imaging.geometry import Geometry
from moe_pipeline.imaging.io.files import read_label_map, write_label_map
from moe_pipeline.imaging.volume import Volume

NATIVE = Geometry((10, 8, 6), (1.0, 1.0, 2.0), (3.0, 4.0, 5.0), (-1, 0, 0, 0, -1, 0, 0, 0, 1))
CLASSES = {0: "background", 1: "organ"}


def write(path: Path, shift: int = 0, native: Geometry = NATIVE, label: int = 1) -> None:
    canonical = native.canonical()
    array = np.zeros(canonical.shape, np.uint8)
    array[2 + shift : 6 + shift, 2:5, 1:4] = label
    write_label_map(Volume(array, canonical), path, native)


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    predictions, references = tmp_path / "predictions", tmp_path / "references"
    for case, shift in (("a", 0), ("b", 2)):
        write(predictions / f"{case}.nii.gz", shift)
        write(references / f"{case}.nii.gz")
    return predictions, references


def statuses(table: pd.DataFrame) -> dict[str, str]:
    return dict(zip(table["case"], table["status"], strict=True))


def test_scores_and_csv(folders: tuple[Path, Path], tmp_path: Path) -> None:
    table = evaluate_folder(*folders, CLASSES, tmp_path / "out")
    assert table["dice"].tolist() == [1, 0.5]
    assert table["volume_reference_ml"].tolist() == pytest.approx([0.072, 0.072])
    pd.testing.assert_frame_equal(read_table(tmp_path / "out" / "dice.csv"), table, rtol=1e-7)


def test_the_order_of_axes_in_the_file_does_not_matter(folders: tuple[Path, Path]) -> None:
    write(folders[0] / "a.nii.gz", native=NATIVE.canonical())
    assert evaluate_folder(*folders, CLASSES)["dice"].tolist() == [1, 0.5]


def test_another_format_does_not_matter(folders: tuple[Path, Path]) -> None:
    (folders[0] / "a.nii.gz").unlink()
    write(folders[0] / "a.nrrd")
    assert evaluate_folder(*folders, CLASSES)["dice"].tolist() == [1, 0.5]


def test_cases_with_numbers_like_channels_are_all_scored(tmp_path: Path) -> None:
    names = [f"scan_{number:04d}" for number in range(3)]
    for name in names:
        write(tmp_path / "predictions" / f"{name}.nii.gz")
        write(tmp_path / "references" / f"{name}.nii.gz")
    table = evaluate_folder(tmp_path / "predictions", tmp_path / "references", CLASSES)
    assert table["case"].tolist() == names


def test_each_bad_case_is_a_row_and_the_rest_is_scored(folders: tuple[Path, Path]) -> None:
    predictions, references = folders
    for case in ("missing", "damaged", "shifted", "strange"):
        write(references / f"{case}.nii.gz")
    (predictions / "damaged.nii.gz").write_bytes(b"no gzip")
    write(predictions / "shifted.nii.gz", native=Geometry((10, 8, 6), (1.0, 1.0, 2.5), NATIVE.origin_mm))
    write(predictions / "strange.nii.gz", label=3)
    write(predictions / "extra.nii.gz")
    for name in ("twice.nii.gz", "twice.nrrd"):
        write(references / name)
    table = evaluate_folder(predictions, references, CLASSES)
    assert statuses(table) == {
        "a": "ok",
        "b": "ok",
        "damaged": "failed",
        "extra": "no_reference",
        "missing": "failed",
        "shifted": "failed",
        "strange": "unknown_label",
        "twice": "failed",
    }
    messages = table[table["status"] == "failed"].set_index("case")["message"]
    assert "damaged.nii.gz" in messages["damaged"]
    assert "no prediction of this name" in messages["missing"]
    assert "spacing 1x1x2.5 against 1x1x2" in messages["shifted"]
    assert "twice.nii.gz and twice.nrrd. Keep one" in messages["twice"]
    assert n_failed(table) == 4
    assert table[table["case"] == "strange"]["dice"].tolist() == pytest.approx([0, np.nan], nan_ok=True)


def test_only_the_wanted_cases(folders: tuple[Path, Path]) -> None:
    write(folders[1] / "other_fold.nii.gz")
    assert evaluate_folder(*folders, CLASSES, cases=["b"])["case"].tolist() == ["b"]
    with pytest.raises(DatasetError, match="no reference for the cases nobody"):
        evaluate_folder(*folders, CLASSES, cases=["b", "nobody"])


def test_progress_counts_the_cases(folders: tuple[Path, Path]) -> None:
    told: list[tuple[float, float]] = []
    evaluate_folder(*folders, CLASSES, progress=lambda _, done, total: told.append((done, total)))
    assert told == [(0, 2), (1, 2), (2, 2)]


def test_a_missing_folder_is_named(folders: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="nowhere"):
        evaluate_folder(tmp_path / "nowhere", folders[1], CLASSES)


def test_an_empty_folder_of_references_is_an_error_and_leaves_no_csv(
    folders: tuple[Path, Path], tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match="empty: no label map to compare with"):
        evaluate_folder(folders[0], tmp_path / "empty", CLASSES, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("with_output", [True, False])
def test_whatever_is_raised_costs_its_case(
    folders: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    with_output: bool,
) -> None:
    whole, out = read_label_map, tmp_path / "out"

    def read(path: Path) -> Volume:
        if path == folders[1] / "a.nii.gz":
            raise IndexError("what?")
        return whole(path)

    monkeypatch.setattr(folder, "read_label_map", read)
    table = evaluate_folder(*folders, CLASSES, out if with_output else None)
    assert statuses(table) == {"a": "failed", "b": "ok"}
    assert "a: IndexError: what?" in table["message"][0]
    if with_output:
        assert (out / "errors" / "a.txt").read_text().startswith("Traceback")
        assert str(out / "errors" / "a.txt") in table["message"][0]
        monkeypatch.setattr(folder, "read_label_map", whole)
        evaluate_folder(*folders, CLASSES, out)
        assert not (out / "errors" / "a.txt").exists()
    else:
        assert "Traceback" in caplog.text


def test_a_file_that_cannot_be_opened_costs_its_case(folders: tuple[Path, Path]) -> None:
    (folders[0] / "a.nii.gz").unlink()
    (folders[0] / "a.nii.gz").symlink_to(folders[0] / "gone.nii.gz")
    table = evaluate_folder(*folders, CLASSES)
    assert statuses(table) == {"a": "failed", "b": "ok"}
