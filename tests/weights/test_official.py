import argparse
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

from moe_pipeline.errors import CheckpointError
from moe_pipeline.model.sam.foundation import SamFoundation
from moe_pipeline.weights.official import load_strictly, read_checkpoint


def layouts(foundation: SamFoundation) -> dict[str, Any]:
    weights = foundation.state_dict()
    optimizer = torch.optim.AdamW(foundation.parameters())
    return {
        "official": {
            "model_state_dict": weights,
            "epoch": 3,
            "args": argparse.Namespace(task="x", nested=argparse.Namespace(lr=0.1)),
            "optimizer": optimizer.state_dict(),
        },
        "bare": weights,
        "parallel": {"model_state_dict": {f"module.{name}": value for name, value in weights.items()}},
    }


@pytest.mark.parametrize("layout", ["official", "bare", "parallel"])
def test_every_layout_gives_the_same_weights(tiny: SamFoundation, tmp_path: Path, layout: str) -> None:
    torch.save(layouts(tiny)[layout], tmp_path / "weights.pth")
    found = read_checkpoint(tmp_path / "weights.pth")
    assert found.keys() == tiny.state_dict().keys()
    assert all(torch.equal(found[name], value) for name, value in tiny.state_dict().items())


class Malicious:
    """Runs a command when it is unpickled."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (self.command,)


@pytest.mark.parametrize("legacy", [False, True])
def test_malicious_pickle_is_refused_and_nothing_runs(tiny: SamFoundation, tmp_path: Path, legacy: bool) -> None:
    witness = tmp_path / "it_ran"
    content = {"model_state_dict": tiny.state_dict(), "args": Malicious(f"touch {witness}")}
    torch.save(content, tmp_path / "weights.pth", _use_new_zipfile_serialization=not legacy)
    with pytest.raises(CheckpointError, match=r"weights\.pth: refused: .*system"):
        read_checkpoint(tmp_path / "weights.pth")
    assert not witness.exists()


def test_malicious_bare_pickle_is_refused(tmp_path: Path) -> None:
    witness = tmp_path / "it_ran"
    (tmp_path / "weights.pth").write_bytes(pickle.dumps(Malicious(f"touch {witness}")))
    with pytest.raises(CheckpointError, match="refused"):
        read_checkpoint(tmp_path / "weights.pth")
    assert not witness.exists()


def test_other_classes_are_not_allowed_afterwards(tiny: SamFoundation, tmp_path: Path) -> None:
    torch.save(layouts(tiny)["official"], tmp_path / "weights.pth")
    read_checkpoint(tmp_path / "weights.pth")
    assert argparse.Namespace not in torch.serialization.get_safe_globals()
    torch.save({"model_state_dict": tiny.state_dict(), "path": tmp_path}, tmp_path / "weights.pth")
    with pytest.raises(CheckpointError, match="refused"):
        read_checkpoint(tmp_path / "weights.pth")


@pytest.mark.parametrize("keep", [1, 10, 3000])
def test_truncated_file_is_named(tiny: SamFoundation, tmp_path: Path, keep: int) -> None:
    torch.save(tiny.state_dict(), tmp_path / "weights.pth")
    (tmp_path / "weights.pth").write_bytes((tmp_path / "weights.pth").read_bytes()[:keep])
    with pytest.raises(CheckpointError, match=r"weights\.pth: (not a readable checkpoint|refused)"):
        read_checkpoint(tmp_path / "weights.pth")


@pytest.mark.parametrize("content", [{}, [1, 2], 5, {"model_state_dict": {}}, {"epoch": 1}])
def test_file_without_weights_is_refused(tmp_path: Path, content: Any) -> None:
    torch.save(content, tmp_path / "weights.pth")
    with pytest.raises(CheckpointError, match="holds no weights"):
        read_checkpoint(tmp_path / "weights.pth")


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"nowhere\.pth: no such checkpoint"):
        read_checkpoint(tmp_path / "nowhere.pth")


def test_differences_are_listed(tiny: SamFoundation) -> None:
    weights = dict(tiny.state_dict())
    del weights["mask_decoder.iou_token.weight"]
    weights["surplus"] = torch.zeros(1)
    weights["mask_decoder.mask_tokens.weight"] = torch.zeros(5, 48)
    weights["image_encoder.pos_embed"] = torch.full((1, 4, 4, 4, 24), torch.nan)
    before = {name: value.clone() for name, value in tiny.state_dict().items()}
    with pytest.raises(CheckpointError) as caught:
        load_strictly(tiny, weights, "weights.pth")
    assert str(caught.value).splitlines() == [
        "weights.pth: does not fit this network, is the configuration right?",
        "  1 missing: mask_decoder.iou_token.weight",
        "  1 unknown: surplus",
        "  1 of another shape: mask_decoder.mask_tokens.weight (5, 48), expected (4, 48)",
        "  1 not finite: image_encoder.pos_embed",
    ]
    assert all(torch.equal(before[name], value) for name, value in tiny.state_dict().items())
