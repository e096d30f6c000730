"""SegVol's published files: three wrappings of the same names, what they hold too much, and what is no network."""

from pathlib import Path
from typing import Any

import pytest
import torch

from moe_pipeline.errors import CheckpointError
from moe_pipeline.weights import import_checkpoint, list_foundations, load_foundation, verify_foundation
from moe_pipeline.weights.published import SEGVOL, read_published
from moe_pipeline.weights.words import read_words
from tests.phantoms.segvol import (
    FIXTURE,
    build_segvol,
    published_weights,
    segvol_config,
    segvol_reference,
    write_vocabulary,
)


def wrapped(as_in: str) -> dict[str, Any]:
    weights = published_weights()
    assert any("position_ids" in name for name in weights)
    assert any("mask_downscaling" in name for name in weights)
    layouts: dict[str, dict[str, Any]] = {
        "SegVol_v1.pth": {"model": {f"module.{name}": value for name, value in weights.items()}, "epoch": 1},
        "pytorch_model.bin": {f"model.{name}": value for name, value in weights.items()},
        "bare.pth": dict(weights),
        "vit_pretrain.ckpt": {
            "state_dict": {
                f"model.{name.removeprefix('image_')}": value
                for name, value in weights.items()
                if name.startswith("image_encoder.")
            }
        },
    }
    return layouts[as_in]


def written(folder: Path, name: str, content: dict[str, Any] | None = None) -> Path:
    torch.save(wrapped(name) if content is None else content, folder / name)
    return folder / name


@pytest.mark.parametrize("name", ["SegVol_v1.pth", "pytorch_model.bin", "bare.pth"])
def test_every_wrapping_gives_the_same_network(tmp_path: Path, name: str) -> None:
    kind, weights = read_published(written(tmp_path, name))
    expected = build_segvol().state_dict()
    assert kind == SEGVOL
    assert weights.keys() == expected.keys()
    assert all(torch.equal(value, expected[key]) for key, value in weights.items())


def test_the_image_encoder_alone_is_refused(tmp_path: Path) -> None:
    file = written(tmp_path, "vit_pretrain.ckpt")
    with pytest.raises(
        CheckpointError, match=r"vit_pretrain\.ckpt: holds SegVol's image encoder alone.*SegVol_v1\.pth"
    ):
        import_checkpoint(file, tmp_path / "weights")
    assert not list(tmp_path.glob("weights/*"))


def test_imported_and_read_back_it_computes_the_same(tmp_path: Path) -> None:
    config, folder = segvol_config(), tmp_path / "weights"
    card = import_checkpoint(FIXTURE / "checkpoint.pth", folder, name="small", config=config)
    assert "none stated" in card.licence
    assert card.preset == "segvol"
    assert card.view.size_voxels == (80, 32, 12)  # x, y, z
    assert verify_foundation("small", folder).config == config.to_dict()
    loaded = load_foundation("small", weights_root=folder)
    crop = segvol_reference()["image_q"].float()[None, None] / 32
    with torch.no_grad():
        found = loaded.encode(crop.transpose(2, 4)).transpose(2, 4)
    assert torch.allclose(found, segvol_reference()["image_embedding"], atol=2e-4)
    assert [stored.card.name for stored in list_foundations(folder)][-1] == "small"


def test_a_vocabulary_comes_with_the_weights(tmp_path: Path) -> None:
    config, folder = segvol_config(), tmp_path / "weights"
    size = write_vocabulary(tmp_path / "words", ("l i",))
    assert size != config.text.vocab_size
    source = FIXTURE / "checkpoint.pth"
    with pytest.raises(CheckpointError, match=f"has {size} words"):
        import_checkpoint(source, folder, name="small", config=config, tokenizer=tmp_path / "words")
    with pytest.raises(CheckpointError, match=r"small\.tokenizer: no such file"):
        read_words(folder / "small.safetensors")


def test_what_does_not_fit_is_listed(tmp_path: Path) -> None:
    weights = published_weights()
    weights["image_encoder.norm.weight"] = torch.ones(7)
    weights["image_encoder.neck.0.weight"] = weights.pop("text_encoder.dim_align.bias")
    file = written(tmp_path, "other.pth", {"model": weights})
    with pytest.raises(CheckpointError, match="does not fit this network") as caught:
        import_checkpoint(file, tmp_path / "weights", config=segvol_config())
    told = str(caught.value)
    assert "1 missing: text_encoder.dim_align.bias" in told
    assert "1 unknown: image_encoder.neck.0.weight" in told
    assert "image_encoder.norm.weight (7,), expected (48,)" in told
