"""SegVol's network of the fixture, and what the original code computed with it."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from moe_pipeline.model.segvol.config import SegVolConfig
from moe_pipeline.model.segvol.foundation import SegVolFoundation

FIXTURE = Path(__file__).parents[1] / "fixtures" / "segvol_small"
Arrays = dict[str, Tensor]


@cache
def segvol_reference() -> Arrays:
    """All arrays of the fixture; axes are (z, y, x) but for raw images."""
    arrays = np.load(FIXTURE / "reference.npz")
    return {name: torch.from_numpy(arrays[name]) for name in arrays.files if arrays[name].dtype.kind != "U"}


def segvol_config() -> SegVolConfig:
    """Sizes; the fixture's own words for them are those of the original classes."""
    values: dict[str, Any] = json.loads((FIXTURE / "config.json").read_text())
    encoder, decoder, text = values["encoder"], values["decoder"], values["text"]
    return SegVolConfig.from_dict(
        {
            "network": "segvol",
            "encoder": {
                "image_size": values["image_size"],
                "patch_size": values["patch_size"],
                "width": encoder["hidden_size"],
                "depth": encoder["num_layers"],
                "num_heads": encoder["num_heads"],
                "mlp_dim": encoder["mlp_dim"],
            },
            "decoder": {name: value for name, value in decoder.items() if name != "text_align"},
            "text": {
                "vocab_size": text["vocab_size"],
                "width": text["hidden_size"],
                "depth": text["num_hidden_layers"],
                "num_heads": text["num_attention_heads"],
                "mlp_dim": text["intermediate_size"],
                "max_words": text["max_position_embeddings"],
            },
        }
    )


def published_weights() -> Arrays:
    """Under the published names, without the file's prefix."""
    weights = torch.load(FIXTURE / "checkpoint.pth", weights_only=True)["model"]
    return {name.removeprefix("module."): value for name, value in weights.items()}


def build_segvol() -> SegVolFoundation:
    """The network, frozen nowhere."""
    foundation = SegVolFoundation(segvol_config())
    unused = ("mask_downscaling", "position_ids")
    foundation.load_state_dict(
        {name: value for name, value in published_weights().items() if not any(part in name for part in unused)}
    )
    return foundation


def write_vocabulary(folder: Path, merges: tuple[str, ...] = ("l i", "e r</w>", "li v", "liv er</w>")) -> int:
    """vocab.json and merges.txt as CLIP's, of single letters and some merges.

    Returns:
        Number of words.
    """
    letters = [chr(code) for code in range(33, 127)]
    words = [*letters, *(f"{letter}</w>" for letter in letters), *("".join(pair.split()) for pair in merges)]
    words += ["<|startoftext|>", "<|endoftext|>"]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps({word: number for number, word in enumerate(words)}))
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]) + "\n")
    return len(words)
