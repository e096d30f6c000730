"""What is known of an expert."""

import os
from pathlib import Path
from typing import Any, Self

from pydantic import Field

from moe_pipeline.errors import RecordError
from moe_pipeline.paths import ModelFolder
from moe_pipeline.records.base import Part, Record
from moe_pipeline.records.foundation import View


class ClickProposerCard(Part):
    """click_proposer.safetensors beside expert.safetensors: where the expert would click by itself."""

    weights_sha256: str
    """click_proposer.safetensors."""
    width: int = Field(gt=0)
    """Channels of the foundation's embedding."""
    hidden: int = Field(gt=0)
    """Width of the head."""
    depth: int = Field(ge=0)
    """Its convolutions."""
    upscaling: int = Field(gt=0)
    """Cells of the heat map per token and axis."""
    classes: tuple[int, ...] = Field(min_length=1)
    """Class id of each heat map."""
    objects: dict[int, int]
    """Objects of each class that a case usually has."""
    best_step: int
    """Step whose averaged weights are kept."""
    validation: dict[str, float]
    """On the fold: hit (share of proposed clicks in their object), distance_mm (mean, 0 inside), found and left_out
    (share of the present and of the absent classes called so)."""
    settings: dict[str, Any] = Field(default_factory=dict)
    """Training settings."""


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
    mirror_axes: tuple[int, ...] = ()
    """Axes (0 R, 1 A, 2 S) along which it was shown mirror images, and may be shown them in prediction."""
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
    continued_from_sha256: str | None = None
    """The expert's weights before cases were added and it went on learning; null if it started from the foundation."""
    click_proposer: ClickProposerCard | None = None
    """What predicts without prompts; null if none was trained."""

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read and validate; where there is no expert, the error says what is there and how to come by one.

        Raises:
            RecordError: if the file is missing or breaks the schema.
        """
        folder = path.parent
        if not os.path.lexists(path) and ModelFolder(folder).card.is_file():
            raise RecordError(
                f"{folder}: a model, not an expert; `moe experts list --model {folder}` names its experts"
            )
        if not os.path.lexists(path):
            raise RecordError(
                f"{folder}: no expert there; make one with `moe finetune DATASET`. If a model refers to it, one of "
                "them was moved without the other: move it back, or share the model with `moe export`"
            )
        return super().load(path)
