from pathlib import Path
from typing import Any

import pytest
import torch

from moe_pipeline.errors import CheckpointError
from moe_pipeline.files import sha256_file
from moe_pipeline.model.sam.foundation import SamFoundation
from moe_pipeline.records.foundation import FoundationCard, View
from moe_pipeline.weights import find_foundation, list_foundations, save_foundation
from moe_pipeline.weights.tensors import load_tensors

VIEW = View(spacing_mm=2, size_voxels=16)


def save(foundation: SamFoundation, folder: Path, name: str = "mine", **options: Any) -> FoundationCard:
    return save_foundation(
        foundation, folder, name=name, source="a test", licence="CC0", preset="nano", view=VIEW, **options
    )


def test_card_tells_what_the_file_is(tiny: SamFoundation, tmp_path: Path) -> None:
    card = save(tiny, tmp_path, training={"steps": 3})
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["mine.json", "mine.safetensors"]
    assert card == FoundationCard.load(tmp_path / "mine.json")
    assert card.weights_sha256 == sha256_file(tmp_path / "mine.safetensors")
    assert (card.licence, card.view, card.training) == ("CC0", VIEW, {"steps": 3})
    assert load_tensors(tmp_path / "mine.safetensors").keys() == tiny.state_dict().keys()


def test_half_precision_keeps_small_tensors_whole(tiny: SamFoundation, tmp_path: Path) -> None:
    save(tiny, tmp_path, dtype=torch.float16)
    tensors = load_tensors(tmp_path / "mine.safetensors")
    large = [name for name, tensor in tiny.state_dict().items() if tensor.numel() >= 10_000]
    assert large
    assert all((tensor.dtype == torch.float16) == (name in large) for name, tensor in tensors.items())


def test_the_same_weights_give_the_same_file(tiny: SamFoundation, tmp_path: Path) -> None:
    assert len({save(tiny, tmp_path, overwrite=True).weights_sha256 for _ in range(6)}) == 1


def test_nothing_is_overwritten_unasked(tiny: SamFoundation, tmp_path: Path) -> None:
    save(tiny, tmp_path)
    with pytest.raises(CheckpointError, match=r"mine\.safetensors: exists already"):
        save(tiny, tmp_path)
    save(tiny, tmp_path, overwrite=True)


@pytest.mark.parametrize("name", ["mine.safetensors", "mine.json"])
def test_files_of_others_are_not_overwritten_even_if_asked(tiny: SamFoundation, tmp_path: Path, name: str) -> None:
    for before in (False, True):
        if before:
            save(tiny, tmp_path)
        (tmp_path / name).write_text("theirs")
        found = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
        with pytest.raises(CheckpointError, match=r"was not written by moe, or was changed since; choose another name"):
            save(tiny, tmp_path, overwrite=True)
        assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == found
        (tmp_path / name).unlink()


def test_a_view_of_another_size_is_not_saved(tiny: SamFoundation, tmp_path: Path) -> None:
    view = VIEW.model_copy(update={"size_voxels": 128})
    with pytest.raises(CheckpointError, match=r"mine\.safetensors: its view has 128 voxels, but its encoder takes 16"):
        save_foundation(tiny, tmp_path, name="mine", source="a test", licence="CC0", preset="nano", view=view)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["../out", "a/b", "", ".hidden", "a b"])
def test_names_stay_in_the_folder(tiny: SamFoundation, tmp_path: Path, name: str) -> None:
    with pytest.raises(CheckpointError, match="is no name for weights"):
        save(tiny, tmp_path, name=name)


def test_lookup_by_name_and_by_path(tiny: SamFoundation, tmp_path: Path) -> None:
    card = save(tiny, tmp_path)
    assert find_foundation("mine", tmp_path).card == card
    assert find_foundation(tmp_path / "mine.safetensors").card == card
    assert card in [stored.card for stored in list_foundations(tmp_path)]


def test_unknown_name_lists_the_known(tiny: SamFoundation, tmp_path: Path) -> None:
    save(tiny, tmp_path)
    with pytest.raises(CheckpointError, match=r"no foundation 'other'; there are: .*mine"):
        find_foundation("other", tmp_path)
    with pytest.raises(CheckpointError, match="no such weights file"):
        find_foundation(tmp_path / "other.safetensors")


def test_weights_without_card_are_refused(tiny: SamFoundation, tmp_path: Path) -> None:
    save(tiny, tmp_path)
    (tmp_path / "mine.json").unlink()
    with pytest.raises(CheckpointError, match=r"has no card mine\.json beside it.*moe weights import"):
        find_foundation(tmp_path / "mine.safetensors")


def test_a_name_that_is_built_in_too_is_not_passed_over(tiny: SamFoundation, tmp_path: Path) -> None:
    save(tiny, tmp_path, name="nano")  # of an earlier version, which let it in
    with pytest.raises(CheckpointError, match=r"nano\.safetensors: has the name of a foundation that comes with moe"):
        find_foundation("nano", tmp_path)
    assert find_foundation(tmp_path / "nano.safetensors").card.config == tiny.config.to_dict()
    assert find_foundation("nano").builtin
