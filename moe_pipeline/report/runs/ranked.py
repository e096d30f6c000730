"""One case of a prediction with all that its tables say of it, and how cases are ordered: the worst first."""

import math
from collections.abc import Sequence

import pandas as pd

from moe_pipeline.records.cases import CaseRow
from moe_pipeline.report.page.blocks import UNKNOWN, Cell
from moe_pipeline.report.runs.results import Results

GENERAL = "general"


class RankedCase:
    """One case with all that the tables say of it."""

    def __init__(self, case: str, rows: Sequence[CaseRow], scores: pd.DataFrame) -> None:
        self.case = case
        self.rows = [row for row in rows if row.class_id is not None]
        self.scores = scores[scores["class_id"].notna() & (scores["status"] != "absent")]
        self.messages = [row.message for row in rows if row.status == "failed"]
        self.messages += scores.loc[scores["status"].isin(("failed", "no_reference")), "message"].tolist()
        self.failed = any(row.status == "failed" for row in rows) or bool((scores["status"] == "failed").any())
        self.dice = [float(value) for value in scores["dice"].dropna()]

    @classmethod
    def of(cls, case: str, results: Results) -> "RankedCase":
        """From the tables of its run."""
        rows = [row for row in results.rows if row.case == case]
        return cls(case, rows, results.scores[results.scores["case"] == case])

    def rank(self) -> tuple[bool, float, bool, str]:
        """The worst first: failed ones, then the lowest score; without scores what was doubtful."""
        absent = any(row.status == "absent" for row in self.rows)
        unknown = any(row.in_distribution == "no" for row in self.rows)
        return not self.failed, min(self.dice, default=math.inf), not (absent or unknown), self.case


def who(row: CaseRow) -> str:
    """Who answered: the expert where its answer has a weight."""
    if not row.expert or row.expert == GENERAL or not row.weight:
        return GENERAL if row.expert else UNKNOWN
    return row.expert


def score_cell(value: float | None) -> Cell:
    """A score from 0 to 1, the darker the better."""
    cell = Cell.number(value)
    if value is None or math.isnan(value):
        return cell
    return Cell(cell.text, cell.order, shade=max(0, min(10, round(value * 10))))


def count(things: Sequence[object], name: str) -> str:
    """How many there are, in words."""
    return f"{len(things)} {name}{'s' * (len(things) != 1)}"
