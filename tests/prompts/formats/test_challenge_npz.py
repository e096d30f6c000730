import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from moe_pipeline.errors import PromptError
from moe_pipeline.prompts.formats.challenge_npz import read


class Evil:
    """Makes a folder when it is unpickled the usual way."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.folder),)


def test_nothing_in_an_archive_is_run(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", clicks=np.array([Evil(tmp_path / "ran")], dtype=object))
    with pytest.raises(PromptError, match=r"array clicks: cannot be read as plain lists and numbers: .*is not allowed"):
        read(tmp_path / "a.npz")
    assert not (tmp_path / "ran").exists()
    with np.load(tmp_path / "a.npz", allow_pickle=True) as archive:
        archive["clicks"]
    assert (tmp_path / "ran").exists()  # so the test is not blind


@pytest.mark.parametrize("name", ["os.system", "builtins.eval", "numpy.load", "numpy.dtype.__init__"])
def test_functions_are_refused_by_name(tmp_path: Path, name: str) -> None:
    module, _, function = name.partition(".") if name.count(".") > 1 else name.rpartition(".")
    program = b"\x80\x04" + pickle.SHORT_BINUNICODE + bytes([len(module)]) + module.encode()
    program += pickle.SHORT_BINUNICODE + bytes([len(function)]) + function.encode() + pickle.STACK_GLOBAL + pickle.STOP
    np.savez(tmp_path / "a.npz", clicks=np.array([None], dtype=object))
    with zipfile.ZipFile(tmp_path / "a.npz") as archive:
        whole = archive.read("clicks.npy")
    head = whole[: whole.index(b"\n") + 1]
    with zipfile.ZipFile(tmp_path / "b.npz", "w") as archive:
        archive.writestr("clicks.npy", head + program)
    with pytest.raises(PromptError, match=f"{name} is not allowed"):
        read(tmp_path / "b.npz")


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"imgs": np.zeros((2, 3, 4))}, "expected an array clicks or boxes, found imgs"),
        ({"clicks": np.array([{"fg": [[1, 2]], "bg": []}], dtype=object)}, "not laid out as the challenge"),
        ({"clicks": np.array([{"bg": []}], dtype=object)}, "not laid out as the challenge.*'fg'"),
        ({"clicks": np.array(["fg"], dtype=object)}, "not laid out as the challenge"),
        ({"boxes": np.zeros((2, 4))}, "not laid out as the challenge"),
        ({"boxes": np.array([{"z_min": 1}], dtype=object)}, "not laid out as the challenge"),
        ({"clicks": np.array([{"fg": [], "bg": []}], dtype=object)}, "its clicks and boxes are empty"),
        ({"clicks": np.array([{"fg": [[1, np.nan, 2]], "bg": []}], dtype=object)}, "finite"),
    ],
)
def test_other_layouts_are_refused(tmp_path: Path, arrays: dict[str, Any], message: str) -> None:
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(PromptError, match=message):
        read(tmp_path / "a.npz")


def test_a_cut_archive_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", clicks=np.array([{"fg": [[1, 2, 3]], "bg": []}], dtype=object))
    whole = (tmp_path / "a.npz").read_bytes()
    (tmp_path / "a.npz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(PromptError, match="damaged or truncated"):
        read(tmp_path / "a.npz")


def test_arrays_inside_arrays_are_read(tmp_path: Path) -> None:
    entry = {"fg": np.array([[1, 2, 3], [4, 5, 6]], order="F"), "bg": [np.array([7.0, 8.0, 9.0], np.float32)]}
    np.savez_compressed(tmp_path / "a.npz", clicks=np.array([entry], dtype=object))
    annotations = read(tmp_path / "a.npz").annotations
    assert [(mark.place, mark.label.inside) for mark in annotations] == [
        ((1, 2, 3), True),
        ((4, 5, 6), True),
        ((7, 8, 9), False),
    ]
