"""The network of the fixture, and what the original code computed with it."""

import pytest
from torch import Tensor

from moe_pipeline.model.segvol.config import SegVolConfig
from moe_pipeline.model.segvol.foundation import SegVolFoundation
from tests.phantoms import segvol as fixture


@pytest.fixture(scope="session")
def segvol_reference() -> dict[str, Tensor]:
    return fixture.segvol_reference()


@pytest.fixture(scope="session")
def segvol_config() -> SegVolConfig:
    return fixture.segvol_config()


@pytest.fixture
def segvol() -> SegVolFoundation:
    return fixture.build_segvol()


@pytest.fixture(scope="session")
def segvol_image(segvol_reference: dict[str, Tensor]) -> Tensor:
    return segvol_reference["image_q"].float()[None, None] / 32
