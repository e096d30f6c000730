"""Rows of cases.csv."""

from typing import Literal

from moe_pipeline.records.base import Part

Status = Literal["ok", "absent", "failed"]


Membership = Literal["yes", "no", ""]


class CaseRow(Part):
    """One class of one case, or one case that failed; a row of cases.csv."""

    case: str
    """Case id."""
    class_id: int | None = None
    """Value in the label map; empty for a case that failed as a whole."""
    class_name: str = ""
    """Its name."""
    status: Status
    """ok: a mask was written; absent: nothing to segment or an empty mask; failed: see message."""
    message: str = ""
    """What went wrong, or why nothing was written."""
    expert: str = ""
    """Who answered: "general" or the name of an expert."""
    weight: float | None = None
    """Weight of the expert's mask in the answer; 0 if the general expert answered alone."""
    in_distribution: Membership = ""
    """no: the gate preferred an expert whose OOD detector finds the image unlike that expert's own. Else yes."""
    prompt_source: str = ""
    """prompts, automatic (the expert's own search), or labels (simulated clicks: an evaluation, not a prediction)."""
    n_clicks: int | None = None
    """Clicks used."""
    volume_ml: float | None = None
    """Volume in the written label map."""
    seconds: float | None = None
    """Time for this class, or for the case until it failed."""
