"""Files that stand where weights should be."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from moe_pipeline.cli import main
from moe_pipeline.errors import CheckpointError
from moe_pipeline.weights import find_foundation, import_checkpoint, list_foundations, load_foundation
from moe_pipeline.weights.official import read_checkpoint
from moe_pipeline.weights.tensors import save_tensors

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:abc\nsize 402000000\n"
LOOK_ALIKES = {
    "empty": (b"", "an empty file"),
    "lfs": (POINTER, "a pointer of Git LFS of 73 bytes, not the weights themselves; run `git lfs pull`"),
    "annex": (b"/annex/objects/SHA256E-s4--9f.pth\n", "a pointer of git-annex"),
    "html": (b"<html>404</html>", "a web page, not weights"),
    "doctype": (b"\xef\xbb\xbf\r\n <!DOCTYPE html>\n<html lang='en'>", "a web page, not weights"),
    "xml": (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "a web page, not weights"),
}


@pytest.mark.parametrize("name", LOOK_ALIKES)
@pytest.mark.parametrize("suffix", [".pth", ".pt", ".safetensors"])
def test_what_is_no_weights_is_recognised_by_its_content(name: str, suffix: str, tmp_path: Path) -> None:
    content, message = LOOK_ALIKES[name]
    path = tmp_path / f"weights{suffix}"
    path.write_bytes(content)
    for read in (read_checkpoint, load_foundation):
        with pytest.raises(CheckpointError, match=message) as error:
            read(path)
        assert str(path) in str(error.value)


@pytest.mark.parametrize("content", [b"text", b"\x80\x02garbage", b"PK\x03\x04 no zip", b"\x00" * 200, b"x" * 5000])
def test_advice_to_unpickle_anything_is_never_passed_on(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"weights\.pth: (not a readable checkpoint|refused)") as error:
        read_checkpoint(path)
    assert "weights_only" not in str(error.value)
    for foreign in (torch.nn.Linear(1, 1), np.zeros(3)):
        torch.save({"model": foreign}, path)
        with pytest.raises(CheckpointError, match=r"refused: .*(Linear|_reconstruct)\)\. Use the file") as error:
            read_checkpoint(path)
        assert not any(advice in str(error.value) for advice in ("weights_only", "safe_globals"))


def test_tensors_without_card_can_be_imported(official: Path, tmp_path: Path) -> None:
    weights = read_checkpoint(official / "checkpoint.pth")
    save_tensors(tmp_path / "plain.safetensors", weights)
    with pytest.raises(CheckpointError, match=r"plain\.safetensors: has no card plain\.json .*moe weights import"):
        find_foundation(tmp_path / "plain.safetensors")
    config = json.loads((official / "config.json").read_text())
    import_checkpoint(tmp_path / "plain.safetensors", tmp_path / "weights", config=config)
    found = load_foundation("plain", weights_root=tmp_path / "weights").state_dict()
    assert all(torch.equal(found[name], value) for name, value in weights.items())


def test_weights_whose_card_is_gone_are_listed_as_such(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_tensors(tmp_path / "weights" / "lost.safetensors", {"a": torch.zeros(1)})
    with pytest.raises(SystemExit):
        main(["weights", "list", "--workspace", str(tmp_path)])
    assert f"{tmp_path / 'weights' / 'lost.safetensors'}: without a card" in capsys.readouterr().err
    with pytest.raises(CheckpointError, match=r"lost\.safetensors: has no card"):
        find_foundation("lost", tmp_path / "weights")


def test_the_name_of_a_built_in_foundation_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    for stored in list_foundations():
        with pytest.raises(CheckpointError, match=f"{stored.card.name}: a foundation of this name comes with moe"):
            import_checkpoint(tmp_path / f"{stored.card.name}.pth", tmp_path / "weights", overwrite=True)
    assert not (tmp_path / "weights").exists()
