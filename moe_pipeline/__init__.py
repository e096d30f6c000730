"""SAM-Med3D-MoE as a tool: finetune experts on a frozen foundation, forget nothing."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from moe_pipeline.inference.model import Mixture

__version__ = "0.1.0"
__all__ = ["load_model"]


def load_model(folder: str | Path, **options: Any) -> "Mixture":
    """Load a whole mixture from its model folder; see `moe_pipeline.inference.model.load_model` for the options."""
    from moe_pipeline.inference.model import load_model as load  # torch loads only when it is needed

    return load(Path(folder), **options)
