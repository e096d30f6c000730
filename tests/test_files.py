import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from moe_pipeline.files import atomic_folder, atomic_path, csv_text, sha256_json


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "text.nii.gz"
    with atomic_path(path) as temporary:
        assert temporary.name.endswith(".nii.gz")
        temporary.write_text("whole")
        assert not path.exists()
    assert path.read_text() == "whole"

    def fail() -> None:
        with atomic_path(path) as temporary:
            temporary.write_text("half")
            raise ValueError

    with pytest.raises(ValueError, match=r"^$"):
        fail()
    assert path.read_text() == "whole"
    assert list(path.parent.iterdir()) == [path]


def test_private_files_of_a_writer_become_readable_like_others(tmp_path: Path) -> None:
    with atomic_path(tmp_path / "weights") as temporary:
        temporary.write_text("x")
        temporary.chmod(0o600)
    (tmp_path / "other").write_text("x")
    modes = {stat.S_IMODE(os.stat(tmp_path / name).st_mode) for name in ("weights", "other")}  # noqa: PTH116
    assert len(modes) == 1


def test_a_folder_is_replaced_as_a_whole(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "old").write_text("old")

    def replace(check: Callable[[Path], None] | None) -> None:
        with atomic_folder(folder, check) as temporary:
            (temporary / "new").write_text("new")

    with pytest.raises(FileExistsError, match="model: exists already"):
        replace(None)
    assert [path.name for path in folder.iterdir()] == ["old"]
    looked_at: list[Path] = []
    replace(looked_at.append)
    assert looked_at == [folder]
    assert [path.name for path in folder.iterdir()] == ["new"]
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_the_hash_of_a_json_value_does_not_depend_on_the_order_of_keys() -> None:
    assert sha256_json({"a": 1, "b": [2]}) == sha256_json({"b": [2], "a": 1})
    assert sha256_json({"a": 1}) != sha256_json({"a": 2})


def test_a_table_as_csv() -> None:
    rows: list[dict[str, object]] = [
        {"case": "a, b", "n": 1, "dice": 1 / 3},
        {"case": 'says "no"', "n": None, "dice": float("inf")},
    ]
    whole = csv_text(["case", "n", "dice"], rows)
    assert whole == 'case,n,dice\n"a, b",1,0.3333333333333333\n"says ""no""",,inf\n'
    assert csv_text(["case", "n", "dice"], rows[:1], digits=3) == 'case,n,dice\n"a, b",1,0.333\n'
    assert csv_text(["case", "n", "dice"], []) == "case,n,dice\n"
    with pytest.raises(ValueError, match="dict contains fields not in fieldnames"):
        csv_text(["case"], rows)
