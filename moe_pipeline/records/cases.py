"""Rows of cases.csv, and how many cases and files there are: found = used + left out."""

from typing import Literal, Self

from pydantic import Field, model_validator

from moe_pipeline.records.base import Part
from moe_pipeline.records.names import printable

_MAX_REASONS = 8
_LONGEST = 120

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
    """prompts, automatic (the expert's own search), text (words), or labels (simulated clicks: an evaluation, not a
    prediction)."""
    n_clicks: int | None = None
    """Clicks used."""
    volume_ml: float | None = None
    """Volume in the written label map."""
    seconds: float | None = None
    """Time for this class, or for the case until it failed."""


class LeftOut(Part):
    """Cases or files that were not used, all for one reason."""

    reason: str
    """Why."""
    count: int = Field(ge=1)
    """How many."""
    examples: tuple[str, ...]
    """Some of them: case ids, or paths relative to the folder."""

    def told(self) -> str:
        """In one line."""
        names = [*map(printable, self.examples), *["..."] * (self.count > len(self.examples) > 0)]
        reason = self.reason if len(self.reason) <= _LONGEST else f"{self.reason[:_LONGEST]}..."
        return f"{self.count} {reason}" + (f": {', '.join(names)}" if names else "")


class Accounting(Part):
    """What became of everything that was found; the numbers add up, or there is no such record."""

    of: Literal["cases", "files"]
    """What is counted. Files are all visible ones below the folder, and those that cases name elsewhere."""
    found: int = Field(ge=0)
    """All of them."""
    used: int = Field(ge=0)
    """What the outcome is made of."""
    left_out: tuple[LeftOut, ...] = ()
    """The others, by reason."""

    @model_validator(mode="after")
    def _adds_up(self) -> Self:
        left = sum(one.count for one in self.left_out)
        if self.found != self.used + left:
            raise ValueError(f"{self.found} found, but {self.used} used + {left} left out")
        return self

    def lines(self) -> list[str]:
        """For the terminal: the sum, then the reasons."""
        left = self.found - self.used
        told = [f"  {one.told()}" for one in self.left_out[:_MAX_REASONS]]
        more = sum(one.count for one in self.left_out[_MAX_REASONS:])
        told += [f"  {more} for other reasons, see the JSON file"] if more else []
        return [f"{self.of}: {self.found} found = {self.used} used + {left} left out", *told]
