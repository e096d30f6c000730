"""What is known of an expert."""

from typing import Any

from pydantic import Field

from moe_pipeline.records.base import Record
from moe_pipeline.records.view import View


class ExpertCard(Record):
    """expert.json beside expert.safetensors."""

    dataset: str
    """Dataset the expert was finetuned on."""
    classes: dict[int, str]
    """Class ids it was prompted with, and their names."""
    view: View
    """What it expects to see."""
    channel: int = Field(ge=0)
    """Image channel it was trained on."""
    foundation: str
    """Name of the foundation whose decoder it started from."""
    foundation_sha256: str
    """That foundation's weights; an expert fits no other."""
    weights_sha256: str
    """The expert's own file."""
    plan_sha256: str
    """Plan it was trained by."""
    fold: int
    """Fold held out for validation; -1 for none."""
    seed: int
    """Of crops, clicks and order."""
    best_step: int
    """Step whose averaged weights are kept."""
    best_score: float
    """Mean validation Dice over first and last click at that step."""
    validation: dict[str, float] = Field(default_factory=dict)
    """Validation columns at the best step, and the general expert's on the same prompts as general_*."""
    settings: dict[str, Any] = Field(default_factory=dict)
    """Training settings."""
