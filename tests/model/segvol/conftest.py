"""The network of the fixture, and what the original code computed with it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from moe_pipeline.model.segvol.config import SegVolConfig
from moe_pipeline.model.segvol.foundation import SegVolNetwork

FIXTURE = Path(__file__).parents[2] / "fixtures" / "segvol_small"


@pytest.fixture(scope="session")
def segvol_reference() -> dict[str, Tensor]:
    arrays = np.load(FIXTURE / "reference.npz")
    return {name: torch.from_numpy(arrays[name]) for name in arrays.files if arrays[name].dtype.kind != "U"}


@pytest.fixture(scope="session")
def segvol_config() -> SegVolConfig:
    return config_of_fixture(json.loads((FIXTURE / "config.json").read_text()))


@pytest.fixture(scope="session")
def segvol_weights() -> dict[str, Tensor]:
    """Under our names: without the prefix of the file and without what the network never uses."""
    weights = torch.load(FIXTURE / "checkpoint.pth", weights_only=True)["model"]
    unused = ("mask_downscaling", "position_ids")
    return {k.removeprefix("module."): v for k, v in weights.items() if not any(part in k for part in unused)}


@pytest.fixture
def segvol(segvol_config: SegVolConfig, segvol_weights: dict[str, Tensor]) -> SegVolNetwork:
    network = SegVolNetwork(segvol_config)
    network.load_state_dict(segvol_weights)
    return network


@pytest.fixture(scope="session")
def segvol_image(segvol_reference: dict[str, Tensor]) -> Tensor:
    return segvol_reference["image_q"].float()[None, None] / 32


def config_of_fixture(values: dict[str, Any]) -> SegVolConfig:
    """The fixture's own words for sizes are those of the original classes."""
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
