from pathlib import Path

import pytest

from moe_pipeline.errors import DatasetError
from moe_pipeline.workspace import Workspace


def make_raw(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "dataset.json").touch()
    return folder


def test_a_dataset_in_the_background_is_linked_and_linked_anew_after_it_moved(tmp_path: Path) -> None:
    place, there = Workspace(tmp_path / "ws"), make_raw(tmp_path / "a" / "Dataset007_X")
    assert place.raw_folder(str(there)).resolve() == there
    moved = tmp_path / "b" / "Dataset007_X"
    moved.parent.mkdir()
    there.rename(moved)
    assert place.raw_folder(str(moved)).resolve() == moved
    assert place.raw_folder("7") == place.raw("Dataset007_X")


def test_another_dataset_of_the_same_name_is_refused(tmp_path: Path) -> None:
    place = Workspace(tmp_path / "ws")
    place.raw_folder(str(make_raw(tmp_path / "a" / "Dataset007_X")))
    with pytest.raises(DatasetError, match="is another dataset of that name"):
        place.raw_folder(str(make_raw(tmp_path / "b" / "Dataset007_X")))


def test_a_workspace_that_does_not_exist_is_said(tmp_path: Path) -> None:
    place = Workspace(tmp_path / "nowhere")
    with pytest.raises(DatasetError, match=r"4: no such folder .*no workspace .*nowhere .*--workspace, or begin with"):
        place.raw_folder("4")
    assert not place.root.exists()


def test_the_folder_above_a_dataset_names_it(tmp_path: Path) -> None:
    make_raw(tmp_path / "download" / "inner" / "Dataset007_X")
    for root in (tmp_path / "nowhere", tmp_path):
        with pytest.raises(DatasetError, match=r"is no dataset, but holds .*Dataset007_X\. Give the folder of one"):
            Workspace(root).raw_folder(str(tmp_path / "download"))
