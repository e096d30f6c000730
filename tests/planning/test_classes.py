import json
from pathlib import Path

import pytest

from moe_pipeline.errors import RecordError
from moe_pipeline.planning.classes import classes_beside


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
