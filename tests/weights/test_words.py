"""Texts become the numbers that CLIP's own tokenizer gives. With the real vocabulary that was checked by hand."""

import builtins
import json
from pathlib import Path
from typing import Any

import pytest

from moe_pipeline.errors import CheckpointError
from moe_pipeline.weights.words import TEMPLATE, import_words, read_words, words_path
from tests.phantoms.segvol import write_vocabulary


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    return tmp_path / "segvol.safetensors"


def test_words_are_merged_lower_case_letters_between_start_and_end(tmp_path: Path, weights: Path) -> None:
    size = write_vocabulary(tmp_path / "vocabulary")
    numbers = json.loads((tmp_path / "vocabulary" / "vocab.json").read_text())
    import_words(tmp_path / "vocabulary", words_path(weights), size)
    ids, known = read_words(weights).encode(["Liver", "x_1"])
    text = [*"acomputerizedtomographyofa"]
    ends = {0, 12, 22, 24, 25}  # last letters of words
    letters = [numbers[letter + "</w>" * (place in ends)] for place, letter in enumerate(text)]
    point, (start, end) = numbers[".</w>"], (size - 2, size - 1)
    letters[7:9] = [numbers["e"], numbers["r"]]  # er is merged at the end of words only
    assert TEMPLATE == "A computerized tomography of a {}."
    assert ids[0].tolist() == [start, *letters, numbers["liver</w>"], point, end, end]
    assert ids[1].tolist() == [start, *letters, numbers["x</w>"], numbers["1</w>"], point, end]
    assert known.sum(1).tolist() == [len(letters) + 4, len(letters) + 5]
    (tmp_path / "again").mkdir()
    words_path(weights).rename(tmp_path / "again" / "tokenizer.json")  # as published in one file
    import_words(tmp_path / "again", words_path(weights), size)
    assert read_words(weights).encode(["Liver"])[0].tolist() == [ids[0, :-1].tolist()]


def test_what_is_missing_or_does_not_fit_is_said(tmp_path: Path, weights: Path) -> None:
    with pytest.raises(CheckpointError, match=r"segvol\.tokenizer: no such file.*--tokenizer"):
        read_words(weights)
    with pytest.raises(CheckpointError, match=r"no vocabulary; expected tokenizer\.json, or vocab\.json"):
        import_words(tmp_path, words_path(weights), 99)
    size = write_vocabulary(tmp_path / "vocabulary")
    with pytest.raises(CheckpointError, match=rf"has {size} words .* knows 49408"):
        import_words(tmp_path / "vocabulary", words_path(weights), 49408)
    (tmp_path / "vocabulary" / "merges.txt").write_text("no merges at all\n")
    with pytest.raises(CheckpointError, match="no readable vocabulary"):
        import_words(tmp_path / "vocabulary", words_path(weights), size)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(CheckpointError, match="no readable vocabulary"):
        import_words(tmp_path / "tokenizer.json", words_path(weights), size)
    assert not words_path(weights).exists()


def test_a_missing_package_is_named(tmp_path: Path, weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    size = write_vocabulary(tmp_path / "vocabulary")
    imported = builtins.__import__

    def without(name: str, *others: Any) -> Any:
        if name == "tokenizers":
            raise ImportError(name)
        return imported(name, *others)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(CheckpointError, match=r"pip install 'moe-pipeline\[text\]'"):
        import_words(tmp_path / "vocabulary", words_path(weights), size)
