"""A tiny foundation and the published fixture."""

from pathlib import Path

import pytest
import torch

from moe_pipeline.model.config import DecoderConfig, EncoderConfig, FoundationConfig, PromptConfig
from moe_pipeline.model.sam.foundation import SamFoundation, build_foundation


@pytest.fixture(scope="session")
def tiny_config() -> FoundationConfig:
    return FoundationConfig(
        encoder=EncoderConfig(img_size=16, patch_size=4, embed_dim=24, depth=2, num_heads=2, out_chans=48),
        prompt=PromptConfig(embed_dim=48),
        decoder=DecoderConfig(transformer_dim=48, mlp_dim=64, num_heads=4),
    )


@pytest.fixture
def tiny(tiny_config: FoundationConfig) -> SamFoundation:
    torch.manual_seed(0)
    return build_foundation(tiny_config)


@pytest.fixture(scope="session")
def official() -> Path:
    return Path(__file__).parents[1] / "fixtures" / "sam_med3d_small"
