"""The network of the fixture, and what the original code computed with it."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from moe_pipeline.model.config import FoundationConfig
from moe_pipeline.model.sam.foundation import SamFoundation, build_foundation

FIXTURE = Path(__file__).parents[1] / "fixtures" / "sam_med3d_small"


@pytest.fixture(scope="session")
def reference() -> dict[str, Tensor]:
    arrays = np.load(FIXTURE / "reference.npz")
    return {name: torch.from_numpy(arrays[name]) for name in arrays.files if arrays[name].dtype.kind != "U"}


@pytest.fixture(scope="session")
def small_config() -> FoundationConfig:
    return FoundationConfig.from_dict(json.loads((FIXTURE / "config.json").read_text()))


@pytest.fixture
def small(small_config: FoundationConfig) -> SamFoundation:
    foundation = build_foundation(small_config)
    foundation.load_state_dict(torch.load(FIXTURE / "checkpoint.pth", weights_only=True)["model_state_dict"])
    return foundation


@pytest.fixture(scope="session")
def image(reference: dict[str, Tensor]) -> Tensor:
    return reference["image_q"].float()[None, None] / 32
