"""Settings and fixtures shared by all tests."""

import os
from pathlib import Path

import pytest
import torch

torch.set_num_threads(1)  # tests run side by side; more threads each only fight


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Root of the real test volumes (MOE_TEST_DATA); skips where there are none."""
    folder = os.environ.get("MOE_TEST_DATA")
    if not folder:
        pytest.skip("MOE_TEST_DATA is not set")
    return Path(folder)
