import json
from pathlib import Path
from typing import Any

import pytest

from moe_pipeline.datasets.dataset import open_dataset
from moe_pipeline.errors import DatasetError, RecordError
from moe_pipeline.records.dataset import DatasetJson

BASIC: dict[str, Any] = {
    "channel_names": {"0": "CT"},
    "labels": {"background": 0, "liver": 1},
    "numTraining": 2,
    "file_ending": ".nii.gz",
}


def lay_out(folder: Path, files: list[str], **changes: Any) -> Path:
    (folder / "imagesTr").mkdir(parents=True)
    (folder / "labelsTr").mkdir()
    for name in files:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).touch()
    (folder / "dataset.json").write_text(json.dumps({**BASIC, **changes}))
    return folder


def test_cases_are_found_in_order_with_their_channels(tmp_path: Path) -> None:
    files = [f"imagesTr/{case}_{channel:04d}.nii.gz" for case in ("b", "a_0001") for channel in (1, 0)]
    files += ["labelsTr/b.nii.gz", "labelsTr/a_0001.nii.gz", "imagesTs/t_0000.nii.gz", "imagesTs/t_0001.nii.gz"]
    dataset = open_dataset(
        lay_out(tmp_path / "Dataset003_X", [*files, "imagesTr/._b_0000.nii.gz"], channel_names={"0": "T1", "1": "T2"})
    )
    assert dataset.name == "Dataset003_X"
    assert [case.case_id for case in dataset.cases] == ["a_0001", "b"]
    assert [path.name for path in dataset.case("b").images] == ["b_0000.nii.gz", "b_0001.nii.gz"]
    assert dataset.case("b").label == tmp_path / "Dataset003_X" / "labelsTr" / "b.nii.gz"
    assert [case.label for case in dataset.test_cases] == [None]
    assert dataset.classes == {1: "liver"}
    with pytest.raises(DatasetError, match="no training case 'c'; it has 2 cases"):
        dataset.case("c")


def test_all_faults_are_listed_at_once(tmp_path: Path) -> None:
    files = ["imagesTr/alone_0000.nii.gz", "labelsTr/orphan.nii.gz", "imagesTr/plain.nii.gz", "imagesTr/x_0001.nii.gz"]
    with pytest.raises(DatasetError) as caught:  # no case is left
        open_dataset(lay_out(tmp_path, files))
    message = str(caught.value)
    assert "4 faults" in message
    assert "alone_0000.nii.gz: an image without label; expected labelsTr/alone.nii.gz" in message
    assert "orphan.nii.gz: a label without image; expected imagesTr/orphan_0000.nii.gz" in message
    assert "plain.nii.gz: no channel number" in message
    assert "x: has channels 0001; dataset.json names 1 (0000 to 0000)" in message


def test_complete_cases_can_be_used_in_spite_of_the_others(tmp_path: Path) -> None:
    files = ["imagesTr/a_0000.nii.gz", "labelsTr/a.nii.gz", "imagesTr/b_0000.nii.gz", "imagesTs/t_0001.nii.gz"]
    dataset = open_dataset(lay_out(tmp_path, files))
    assert [case.case_id for case in dataset.cases] == ["a"]
    assert dataset.test_cases == ()
    assert [fault.case_id for fault in dataset.faults] == ["b", "t"]
    with pytest.raises(DatasetError, match=r"b: b_0000\.nii\.gz: an image without label"):
        dataset.case("b")


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (
            {"background": 0, "whole": [1, 2], "core": [2]},
            r"regions \(whole = \[1, 2\]\) are converted and scored, but no expert learns",
        ),
        ({"background": 0}, "no class besides background"),
        ({"background": 0, "a": 1, "b": 1}, "a and b share the value 1"),
        ({"background": 0, "a": -1, "b": 1}, r"0\.\.65535, found -1\.\.1"),
    ],
)
def test_labels_that_cannot_be_prompted_are_refused(tmp_path: Path, labels: dict[str, Any], message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        open_dataset(lay_out(tmp_path, [], labels=labels))


def test_an_explicit_list_of_cases_is_followed(tmp_path: Path) -> None:
    listed = {"one": {"images": ["elsewhere/i.nii.gz"], "label": "elsewhere/l.nii.gz"}}
    folder = lay_out(tmp_path, ["elsewhere/i.nii.gz", "elsewhere/l.nii.gz"], dataset=listed)
    (case,) = open_dataset(folder).cases
    assert case.images == (folder / "elsewhere" / "i.nii.gz",)
    (folder / "elsewhere" / "l.nii.gz").unlink()
    with pytest.raises(DatasetError, match=r"one: .*l\.nii\.gz does not exist"):
        open_dataset(folder)


def test_missing_pieces_are_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="nowhere: no such folder"):
        open_dataset(tmp_path / "nowhere")
    with pytest.raises(RecordError, match=r"dataset\.json: no such file"):
        open_dataset(tmp_path)
    with pytest.raises(DatasetError, match=r"no images \*_0000\.nii\.gz in imagesTr"):
        open_dataset(lay_out(tmp_path / "x", []))
    with pytest.raises(RecordError, match="channels must be numbered from 0 without gaps, found 0, 2"):
        open_dataset(lay_out(tmp_path / "y", [], channel_names={"0": "a", "2": "b"}))


def test_dataset_json_keeps_foreign_keys_and_writes_none_of_ours(tmp_path: Path) -> None:
    given = {**BASIC, "labels": {"background": 0, "liver": [1], "ignore": 2}, "licence": "CC-BY"}
    description = DatasetJson.model_validate(given)
    assert description.classes == {1: "liver"}
    description.save(tmp_path / "dataset.json")
    assert json.loads((tmp_path / "dataset.json").read_text()) == given
    assert DatasetJson.load(tmp_path / "dataset.json") == description


def test_names_in_two_forms_of_unicode_are_one_case_and_never_two(tmp_path: Path) -> None:
    composed, decomposed = "M\u00fcller", "Mu\u0308ller"
    files = [f"imagesTr/{decomposed}_0000.nii.gz", f"labelsTr/{composed}.nii.gz"]
    dataset = open_dataset(lay_out(tmp_path / "Dataset001_X", [*files, "imagesTr/a_0000.nii.gz", "labelsTr/a.nii.gz"]))
    assert [case.case_id for case in dataset.cases] == [composed, "a"]
    (tmp_path / "Dataset001_X" / f"labelsTr/{decomposed}.nii.gz").touch()
    dataset = open_dataset(tmp_path / "Dataset001_X")
    assert [case.case_id for case in dataset.cases] == ["a"]
    assert "the same letters in two forms of Unicode" in dataset.faults[0].message


def test_the_folder_above_names_the_datasets_in_it(tmp_path: Path) -> None:
    lay_out(tmp_path / "download" / "Dataset001_X", ["imagesTr/a_0000.nii.gz", "labelsTr/a.nii.gz"])
    with pytest.raises(DatasetError, match=r"is no dataset, but holds .*Dataset001_X\. Give the folder of one"):
        open_dataset(tmp_path / "download")
