import json
from typing import Any

import pytest

from moe_pipeline.model.config import FoundationConfig


def sizes() -> dict[str, Any]:
    return {
        "encoder": {"img_size": 64, "patch_size": 8, "embed_dim": 96, "depth": 4, "num_heads": 6, "out_chans": 48},
        "prompt": {"embed_dim": 48},
        "decoder": {"transformer_dim": 48},
    }


def test_round_trip_through_json() -> None:
    config = FoundationConfig.from_dict(sizes() | {"norm_eps_encoder": 1e-5, "image_embedding_size": [8, 8, 8]})
    assert config.encoder.norm_eps == 1e-5
    assert config.low_resolution_size == 32
    assert FoundationConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.parametrize(
    ("part", "change", "message"),
    [
        ("encoder", {"colour": 1}, "encoder: unknown keys: colour"),
        ("encoder", {"patch_size": 7}, "img_size 64 is no multiple of 7"),
        ("encoder", {"num_heads": 7}, "embed_dim 96 is no multiple of 7"),
        ("encoder", {"stem": "magic"}, "stem must be patch or conv, got 'magic'"),
        ("encoder", {"stem": "conv", "patch_size": 16}, "a conv stem needs patch_size 8, got 16"),
        ("encoder", {"window_size": -1}, "window_size must not be negative, got -1"),
        ("prompt", {"embed_dim": 50}, "prompt embed_dim must be a multiple of 3, got 50"),
        ("prompt", {"mask_in_chans": 6}, "mask_in_chans must be a multiple of 4, got 6"),
        ("decoder", {"num_heads": 7}, "transformer_dim 48 is no multiple of 14"),
        ("decoder", {"transformer_dim": 96}, r"widths of .* differ: \(48, 48, 96\)"),
    ],
)
def test_contradictions_are_rejected(part: str, change: dict[str, Any], message: str) -> None:
    values = sizes()
    values[part] |= change
    with pytest.raises(ValueError, match=message):
        FoundationConfig.from_dict(values)


def test_missing_and_surplus_parts_are_rejected() -> None:
    with pytest.raises(ValueError, match=r"encoder: .*missing .*'img_size'"):
        FoundationConfig.from_dict(sizes() | {"encoder": {}})
    with pytest.raises(ValueError, match="unknown keys: surplus"):
        FoundationConfig.from_dict(sizes() | {"surplus": 1})
    with pytest.raises(ValueError, match=r"image_embedding_size is \[4, 4, 4\], sizes give \[8, 8, 8\]"):
        FoundationConfig.from_dict(sizes() | {"image_embedding_size": [4, 4, 4]})
