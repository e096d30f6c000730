"""SAM-Med3D-MoE as a tool: finetune experts on a frozen foundation, forget nothing."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from moe_pipeline.inference.api import Model

__all__ = ["load_model"]


def load_model(folder: str | Path | None = None, **choices: Any) -> "Model":
    """Load a model folder, or with `foundation="nano"` a foundation alone, to predict from Python: see docs/python.md.

    Args:
        folder: with moe.json; none for a foundation.
        choices: device, precision, selector, tau and more; see `moe_pipeline.inference.options.ModelChoice`.
    """
    from moe_pipeline.inference.api import open_model  # torch loads only when it is needed

    return open_model(folder, **choices)
