"""What is kept of an evaluation that compares models prompt by prompt."""

from typing import Literal

from moe_pipeline.records.base import Part, Record
from moe_pipeline.records.cases import Membership

Kind = Literal["finetuned", "general", "unseen"]
"""finetuned: an expert knows the dataset. general: the gate was trained with it, as what stays with the foundation.
unseen: nothing was trained with it."""


class PromptScore(Part):
    """One object of one case, as one model segments it."""

    class_id: int
    """Label value."""
    class_name: str
    """Its name."""
    dice: float
    """Overlap of the object's own mask with its reference, whatever other objects claim."""
    voxels: int
    """Size of the mask."""
    mask_sha256: str
    """Hash of the mask's voxels: equal for equal masks."""
    expert: str
    """Who answered."""
    weight: float
    """Weight of the expert's mask; 0 where the general expert answered alone."""
    in_distribution: Membership
    """Whether the image is like those of the expert that was considered; empty where none was."""
    seconds: float
    """Time for this object."""


class ModelScores(Part):
    """All objects of one case, as one model segments them."""

    made_of: str
    """Hash of model, clicks, image and reference; scores of anything else are made again."""
    prompts: tuple[PromptScore, ...]
    """In the order of the class ids; only classes that the reference has."""


class CaseScores(Record):
    """One case of one set; written anew after each model."""

    dataset: str
    """The set."""
    case: str
    """Case id."""
    models: dict[str, ModelScores]
    """By "<model>, <n> clicks"."""
