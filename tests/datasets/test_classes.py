import json
from pathlib import Path

import numpy as np
import pytest

from moe_pipeline.datasets.classes import classes_beside, classes_of
from moe_pipeline.errors import ImageError, RecordError
from moe_pipeline.imaging.geometry import Geometry
from moe_pipeline.imaging.io.files import write_label_map
from moe_pipeline.imaging.volume import Volume


def write(folder: Path, content: object) -> Path:
    (folder / "dataset.json").write_text(json.dumps(content))
    return folder / "labelsTs"


def test_nnunet_and_decathlon_forms_mean_the_same(tmp_path: Path) -> None:
    known = {"channel_names": {"0": "CT"}, "numTraining": 1, "file_ending": ".nii.gz"}
    assert classes_beside(write(tmp_path, {**known, "labels": {"background": 0, "liver": 2}})) == {2: "liver"}
    assert classes_beside(write(tmp_path, {"labels": {"0": "background", "2": "liver"}})) == {2: "liver"}


def test_no_file_means_no_names_and_a_broken_one_is_an_error(tmp_path: Path) -> None:
    assert classes_beside(tmp_path / "labelsTs") == {}
    with pytest.raises(RecordError, match=r"dataset.json: no dataset.json with labels"):
        classes_beside(write(tmp_path, ["nothing"]))


def test_unnamed_classes_are_the_values_of_all_label_maps(tmp_path: Path) -> None:
    grid = Geometry((4, 4, 4), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0))
    for value in (2, 7):
        array = np.zeros(grid.shape, np.uint8)
        array[1, 1, 1] = value
        write_label_map(Volume(array, grid), tmp_path / f"case_{value}.nii.gz", grid)
    (tmp_path / "broken.nii.gz").write_bytes(b"no image")
    assert classes_of(tmp_path) == {2: "class 2", 7: "class 7"}
    with pytest.raises(ImageError, match="no such folder"):
        classes_of(tmp_path / "nowhere")


def test_classes_of_cases_with_numbers_like_channels_are_all_found(tmp_path: Path) -> None:
    grid = Geometry((4, 4, 4), (1.0, 1.0, 1.0))
    for number in range(2):
        write_label_map(Volume(np.full(grid.shape, 1 + number), grid), tmp_path / f"scan_{number:04d}.nii.gz", grid)
    assert classes_of(tmp_path) == {1: "class 1", 2: "class 2"}
