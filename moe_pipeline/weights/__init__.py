"""The only place that loads or saves tensors."""

from moe_pipeline.weights.fetch import fetch_foundation
from moe_pipeline.weights.load import import_checkpoint, load_foundation, verify_foundation
from moe_pipeline.weights.store import StoredFoundation, find_foundation, list_foundations, save_foundation

__all__ = [
    "StoredFoundation",
    "fetch_foundation",
    "find_foundation",
    "import_checkpoint",
    "list_foundations",
    "load_foundation",
    "save_foundation",
    "verify_foundation",
]
