"""What an evaluation is told and what it says: one row of dice.csv, and how much a model forgot."""

from typing import Literal

from pydantic import Field

from moe_pipeline.records.base import Part
from moe_pipeline.records.prompts import Action

Status = Literal["ok", "absent", "failed", "unknown_label", "no_reference"]

Surface = Literal["area", "boundary_voxels"]
"""What distances are taken between. area: pieces of the surface, each with its area. boundary_voxels: the voxels that
one erosion takes away, each counted once."""


class MeasureRules(Part):
    """What is left open in the definitions of the measures."""

    nsd_tolerance_mm: float = Field(default=1.0, ge=0)
    """Surfaces this close count as equal in the NSD."""
    hd95: Surface = "area"
    """What the 95th percentile is of."""


class MetricRow(Part):
    """One row of dice.csv: one class of one case, or one case that could not be scored.

    A measure that does not exist is NaN; `moe_pipeline.evaluation.metrics` says when.
    """

    case: str
    """Case id, as in the file names."""
    class_id: int | None = None
    """Label value; empty where the row speaks of the whole case."""
    class_name: str = ""
    """Name of the label value; empty where there is none."""
    dice: float = float("nan")
    """Overlap in [0, 1]."""
    iou: float = float("nan")
    """Intersection over union in [0, 1]."""
    nsd: float = float("nan")
    """Share of both surfaces within the tolerance of the other one, in [0, 1]."""
    hd95_mm: float = float("nan")
    """95th percentile of the surface distances in mm; `moe_pipeline.evaluation.metrics` says what it is where only one
    of the masks holds the class."""
    volume_reference_ml: float = float("nan")
    """Volume of the reference in ml."""
    volume_prediction_ml: float = float("nan")
    """Volume of the prediction in ml."""
    volumetric_similarity: float = float("nan")
    """1 - |difference of the volumes| / their sum, in [0, 1]."""
    status: Status = "ok"
    """ok: scored. absent: neither mask holds the class. failed: the case could not be scored. unknown_label: a label
    value outside the class map. no_reference: a prediction without a reference."""
    message: str = ""
    """Why it is not ok."""


class ReplayedObject(Part):
    """One row of objects.csv: what a person did for one object, and what it came to."""

    case: str
    """Case id."""
    object: int
    """Number of the object in the session."""
    class_id: int
    """Label value."""
    class_name: str = ""
    """Its name."""
    clicks: int
    """Clicks, those that were undone among them."""
    boxes: int
    """Boxes, likewise."""
    undone: int
    """Steps that were undone while it was the active object."""
    seconds: float
    """That the person spent on it; of a pause at most one minute counts."""
    dice: float = float("nan")
    """Of its mask in the end, in [0, 1]; NaN without a reference."""
    clicks_to_80: int | None = None
    """Clicks and boxes after which the Dice reached 0.8 for the first time; empty if it never did."""
    expert: str = ""
    """Who answered last."""
    volume_ml: float = float("nan")
    """Of the mask in the end."""
    status: Literal["ok", "removed", "failed"] = "ok"
    """removed: not there any more in the end. failed: the journal of the case could not be replayed."""
    message: str = ""
    """Why it failed."""


class ReplayedStep(Part):
    """One row of steps.csv: one step of a journal."""

    case: str
    """Case id."""
    step: int
    """From 1."""
    at_seconds: float
    """Since the first step."""
    action: Action
    """What was done."""
    object: int
    """Number of the active object after it; 0 if there is none."""
    answer_seconds: float
    """That the answer took now."""
    dice: float = float("nan")
    """Of the active object after it; NaN without a reference or a mask."""


class Forgetting(Part):
    """How much worse a model is than the general expert on what was not finetuned. Positive means forgotten."""

    model: str
    """The model that is judged."""
    n_classes: int
    """Classes of datasets that were not finetuned."""
    largest_drop: float
    """Largest drop of a class's mean score, in the metric's unit; NaN without classes."""
    largest_drop_at: str
    """Dataset and class of the largest drop."""
    mean_drop: float
    """Mean drop over the classes; NaN without classes."""
