"""The tests' slow encoder, which the fast one is measured against."""

import importlib.util
from collections.abc import Callable
from pathlib import Path

from torch import Tensor


def load_direct() -> Callable[..., Tensor]:
    """The function `encode_directly` of tests/model/sam/direct_encoder.py."""
    path = Path(__file__).parents[1] / "tests" / "model" / "sam" / "direct_encoder.py"
    spec = importlib.util.spec_from_file_location("direct_encoder", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    function: Callable[..., Tensor] = module.encode_directly
    return function
