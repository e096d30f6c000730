"""The page of a prediction or an evaluation: scores by class, every case worst first, and the scans."""

import math
from collections.abc import Mapping, Sequence
from itertools import groupby

import pandas as pd

from moe_pipeline.evaluation.summary import ALL_CLASSES, summarise
from moe_pipeline.journal.case_errors import CaseError
from moe_pipeline.progress import Progress, silent
from moe_pipeline.records.cases import CaseRow
from moe_pipeline.report.drawings.scores import draw_scores
from moe_pipeline.report.options import ReportOptions
from moe_pipeline.report.page.blocks import (
    Block,
    Cell,
    Column,
    Drawing,
    Figures,
    Page,
    PageSection,
    Prose,
    ShownCase,
    ShownObject,
    Table,
    Viewer,
)
from moe_pipeline.report.page.names import Names
from moe_pipeline.report.runs.facts import facts_of
from moe_pipeline.report.runs.results import Results
from moe_pipeline.report.scans.gather import Found, gather_scans
from moe_pipeline.report.scans.scan import SmallScan
from moe_pipeline.report.tables import UNKNOWN

GENERAL = "general"
_OBJECTS = (
    Column("Object"),
    Column("Answered by", note="general: the foundation; else the expert whose answer counts"),
    Column("Weight", True, "of the expert's mask; 0: the foundation answered alone"),
    Column("Image known", note="no: the image is unlike those of the expert that was considered"),
    Column("Clicks", True),
    Column("ml", True, "volume in the label map"),
)
_SCORED = (
    Column("Dice", True),
    Column("HD95 mm", True, "95th percentile of the surface distances"),
    Column("ml reference", True, "volume in the reference"),
)


def prediction_page(results: Results, options: ReportOptions, progress: Progress = silent) -> Page:
    """The whole page of a prediction, an evaluation, or both."""
    names = Names.of(results.cases, anonymous=options.anonymous)
    ranked = [_Case.of(case, results) for case in results.cases]
    ranked.sort(key=_Case.rank)
    scans = gather_scans([one.case for one in ranked if not one.failed], results.files_of, options, progress)
    sections = [_summary(results, ranked, names)]
    if failed := [one for one in ranked if one.failed]:
        sections.append(_failures(failed, names))
    sections.append(_cases(results, ranked, scans, names))
    title = names.title(results.folder)
    return Page(
        title=f"Predictions in {title}"
        if results.rows and title
        else f"Evaluation in {title}"
        if title
        else "Predictions",
        kind="prediction" if results.rows else "evaluation",
        lead=_lead(results, ranked, names),
        sections=tuple(sections),
        facts=facts_of(results.record, names),
    )


class _Case:
    """One case with all that the tables say of it."""

    def __init__(self, case: str, rows: Sequence[CaseRow], scores: pd.DataFrame) -> None:
        self.case = case
        self.rows = [row for row in rows if row.class_id is not None]
        self.scores = scores[scores["class_id"].notna()]
        self.messages = [row.message for row in rows if row.status == "failed"]
        self.messages += scores.loc[scores["status"].isin(("failed", "no_reference")), "message"].tolist()
        self.failed = any(row.status == "failed" for row in rows) or bool((scores["status"] == "failed").any())
        self.dice = [float(value) for value in scores["dice"].dropna()]

    @classmethod
    def of(cls, case: str, results: Results) -> "_Case":
        rows = [row for row in results.rows if row.case == case]
        return cls(case, rows, results.scores[results.scores["case"] == case])

    def rank(self) -> tuple[bool, float, bool, float, str]:
        """The worst first: failed ones, then the lowest score; without scores what was doubtful."""
        absent = any(row.status == "absent" for row in self.rows)
        unknown = any(row.in_distribution == "no" for row in self.rows)
        return not self.failed, min(self.dice, default=math.inf), not (absent or unknown), 0.0, self.case


def _lead(results: Results, ranked: Sequence[_Case], names: Names) -> str:
    scored = [one for one in ranked if one.dice]
    if not scored:
        done = sum(not one.failed for one in ranked)
        return f"{done} of {len(ranked)} scans were segmented. There are no references, so nothing is scored."
    worst = scored[0]
    table = summarise(results.scores)
    mean = table.iloc[-1]
    classes = f"{len(table) - 1} classes" if mean["class_name"] == ALL_CLASSES else str(mean["class_name"])
    return (
        f"Mean Dice {mean['mean']:.3f} over {classes} of {_count(scored, 'case')}. The lowest, "
        f"{min(worst.dice):.3f}, is in {names.case(worst.case)}."
    )


def _summary(results: Results, ranked: Sequence[_Case], names: Names) -> PageSection:
    blocks: list[Block] = [Figures(tuple(_figures(results, ranked)))]
    if any(row.prompt_source == "labels" for row in results.rows):
        blocks.append(
            Prose("The clicks were simulated from the references: this is an evaluation, not a prediction.", "warn")
        )
    if (results.scores["status"] == "ok").any():
        table, drawn = _class_table(results.scores, names), draw_scores(results.scores)
        drawing = Drawing(
            drawn, "Dice of each case", "A dot is a case; the line is the median, the bar the middle half."
        )
        blocks += [table, drawing]
    elif results.rows:
        blocks.append(_answers_table(results.rows))
    return PageSection("What came out", tuple(blocks))


def _figures(results: Results, ranked: Sequence[_Case]) -> list[tuple[str, str, str]]:
    items = []
    if (results.scores["status"] == "ok").any():
        mean = summarise(results.scores).iloc[-1]
        items.append((f"{mean['mean']:.3f}", "mean Dice", f"95 % interval {mean['low']:.3f} to {mean['high']:.3f}"))
    failed = sum(one.failed for one in ranked)
    items.append((str(len(ranked) - failed), "cases done", f"{failed} failed" if failed else "none failed"))
    answered = [row for row in results.rows if row.status != "failed" and row.expert]
    if answered:
        by_expert = sum(row.expert != GENERAL and bool(row.weight) for row in answered)
        items.append(
            (f"{by_expert} of {len(answered)}", "objects answered by an expert", "the others by the foundation")
        )
        unknown = sum(row.in_distribution == "no" for row in answered)
        if unknown:
            items.append((str(unknown), "objects on unknown images", "unlike those of the expert that was considered"))
    absent = sum(row.status == "absent" for row in results.rows)
    if absent:
        items.append((str(absent), "objects not found", "or empty; see the cases"))
    return items


def _class_table(scores: pd.DataFrame, names: Names) -> Table:
    columns = (
        Column("Class"),
        Column("Cases", True),
        Column("Mean Dice", True),
        Column("Median", True),
        Column("95 % interval", True, "of the mean; bootstrap over cases"),
        Column("Lowest", True),
        Column("in"),
        Column("NSD", True, "share of the surfaces within 1 mm of each other"),
        Column("HD95 mm", True, "median"),
    )
    dice, more = summarise(scores), summarise(scores, ("nsd", "hd95_mm"))
    rows = []
    for _, one in dice.iterrows():
        all_of_them = one["class_name"] == ALL_CLASSES and pd.isna(one["class_id"])
        own = scores if all_of_them else scores[scores["class_id"] == one["class_id"]]
        worst = own.dropna(subset=["dice"]).sort_values("dice").head(1)
        other = more[more["class_name"] == one["class_name"]].set_index("metric")
        rows.append(
            (
                Cell(str(one["class_name"]), swatch=None if all_of_them else int(one["class_id"])),
                Cell.whole(int(one["n"])) if not all_of_them else Cell(""),
                _score(one["mean"]),
                Cell.number(one["median"]),
                Cell(f"{one['low']:.3f} to {one['high']:.3f}", float(one["low"])),
                Cell.number(float(worst["dice"].iloc[0])) if len(worst) else Cell(""),
                Cell(names.case(str(worst["case"].iloc[0]))) if len(worst) else Cell(""),
                Cell.number(float(other["mean"].get("nsd", math.nan))),
                Cell.number(float(other["median"].get("hd95_mm", math.nan)), 1),
            )
        )
    return Table(columns, tuple(rows))


def _answers_table(rows: Sequence[CaseRow]) -> Table:
    """Without references: what was found of each class, and who found it."""
    columns = (
        Column("Class"),
        Column("Found", True),
        Column("Not found", True),
        Column("Median ml", True),
        Column("By an expert", True),
    )
    told = []
    key = lambda row: (row.class_id or 0, row.class_name)  # noqa: E731
    for (value, name), group in groupby(sorted((row for row in rows if row.class_id), key=key), key):
        own = list(group)
        found = [row for row in own if row.status == "ok"]
        volumes = [row.volume_ml for row in found if row.volume_ml is not None]
        told.append(
            (
                Cell(name or f"class {value}", swatch=value),
                Cell.whole(len(found)),
                Cell.whole(sum(row.status == "absent" for row in own)),
                Cell.number(float(pd.Series(volumes).median()) if volumes else None, 2),
                Cell.whole(sum(row.expert != GENERAL and bool(row.weight) for row in found)),
            )
        )
    return Table(columns, tuple(told))


def _failures(failed: Sequence[_Case], names: Names) -> PageSection:
    rows = tuple(
        (Cell(names.case(one.case), tone="bad"), Cell(names.text("; ".join(dict.fromkeys(one.messages)))))
        for one in failed
    )
    return PageSection(
        "Failed", (Table((Column("Case"), Column("Reason")), rows),), f"{_count(failed, 'case')} gave no result."
    )


def _cases(results: Results, ranked: Sequence[_Case], scans: Mapping[str, Found], names: Names) -> PageSection:
    scored = bool((results.scores["status"] == "ok").any())
    columns = [
        Column("Case"),
        *([Column("Dice", True, "mean over the classes"), Column("Lowest", True), Column("of")] if scored else []),
    ]
    columns += [Column("ml", True)] if results.rows and not scored else []
    columns += [Column("Answered by")] if results.rows else []
    columns += [Column("Remarks")]
    rows = tuple(_case_cells(one, names, scored=scored, answered=bool(results.rows)) for one in ranked)
    shown = {
        names.case(one.case): _shown(one, scans[one.case], names, scored=scored) for one in ranked if one.case in scans
    }
    viewer = Viewer(
        Table(tuple(columns), rows),
        shown,
        (*_OBJECTS, *(_SCORED if scored else ())),
        _classes(results),
        bool(results.references),
    )
    blocks: list[Block] = [Prose(names.text(results.missing), "warn")] if results.missing else []
    left = len(ranked) - len(shown)
    lead = "The worst come first. " if scored else ""
    lead += (
        f"{len(shown)} of {len(ranked)} can be looked at; --cases shows more." if left else "Choose one to look at it."
    )
    return PageSection("Cases", (*blocks, viewer), lead)


def _case_cells(one: _Case, names: Names, *, scored: bool, answered: bool) -> tuple[Cell, ...]:
    cells = [Cell(names.case(one.case), tone="bad" if one.failed else "")]
    if scored:
        mean = sum(one.dice) / len(one.dice) if one.dice else None
        worst = one.scores.dropna(subset=["dice"]).sort_values("dice").head(1)
        lowest = (
            [Cell.number(float(worst["dice"].iloc[0])), Cell(str(worst["class_name"].iloc[0]))] if len(worst) else []
        )
        cells += [_score(mean), *(lowest or [Cell.number(None), Cell("")])]
    elif answered:
        cells.append(Cell.number(sum(row.volume_ml or 0 for row in one.rows), 2))
    if answered:
        cells.append(Cell(", ".join(dict.fromkeys(_who(row) for row in one.rows if row.expert)) or UNKNOWN))
    remarks = [f"{row.class_name}: not found" for row in one.rows if row.status == "absent"]
    remarks += ["unknown image"] if any(row.in_distribution == "no" for row in one.rows) else []
    remarks += ["failed"] if one.failed else []
    cells.append(Cell("; ".join(remarks), tone="warn" if remarks and not one.failed else ""))
    return tuple(cells)


def _shown(one: _Case, found: Found, names: Names, *, scored: bool) -> ShownCase:
    name = names.case(one.case)
    objects = tuple(_object_rows(one, names, scored=scored))
    if isinstance(found, SmallScan):
        return ShownCase(name, objects, found.scan, found.volumes, found.still, found.remark)
    remark = names.text(found.message) if isinstance(found, CaseError) else "There is no image to show."
    return ShownCase(name, objects, remark=remark)


def _object_rows(one: _Case, names: Names, *, scored: bool) -> list[ShownObject]:
    told, rows = set(), []
    for row in one.rows:
        value = row.class_id or 0
        first = value not in told
        told.add(value)
        rows.append(
            ShownObject(
                value, (*_answer_cells(row, names), *(_metric_cells(one, value, first=first) if scored else ()))
            )
        )
    for value, name in one.scores[["class_id", "class_name"]].itertuples(index=False):
        if int(value) not in told:
            empty = (Cell(str(name), swatch=int(value)), *(Cell("") for _ in _OBJECTS[1:]))
            rows.append(
                ShownObject(int(value), (*empty, *(_metric_cells(one, int(value), first=True) if scored else ())))
            )
    return rows


def _answer_cells(row: CaseRow, names: Names) -> tuple[Cell, ...]:
    name = row.class_name or f"class {row.class_id}"
    remark = f" ({names.text(row.message)})" if row.message else ""
    return (
        Cell(f"{name}{remark}", swatch=row.class_id, tone="warn" if row.status == "absent" else ""),
        Cell(_who(row)),
        Cell.number(row.weight, 2),
        Cell(row.in_distribution or UNKNOWN, tone="warn" if row.in_distribution == "no" else ""),
        Cell(UNKNOWN if row.n_clicks is None else str(row.n_clicks)),
        Cell.number(row.volume_ml, 2),
    )


def _metric_cells(one: _Case, value: int, *, first: bool) -> tuple[Cell, ...]:
    own = one.scores[one.scores["class_id"] == value].head(1)
    if own.empty or not first:
        return Cell(""), Cell(""), Cell("")
    score = own.iloc[0]
    return _score(score["dice"]), Cell.number(score["hd95_mm"], 1), Cell.number(score["volume_reference_ml"], 2)


def _who(row: CaseRow) -> str:
    """Who answered, where both did in part."""
    if not row.expert or row.expert == GENERAL or not row.weight:
        return GENERAL if row.expert else UNKNOWN
    return row.expert


def _classes(results: Results) -> dict[int, str]:
    named = {row.class_id: row.class_name for row in results.rows if row.class_id}
    for value, name in results.scores[["class_id", "class_name"]].dropna().itertuples(index=False):
        named[int(value)] = str(name) or named.get(int(value), "")
    return {value: name or f"class {value}" for value, name in sorted(named.items()) if value}


def _score(value: float | None) -> Cell:
    cell = Cell.number(value)
    if value is None or math.isnan(value):
        return cell
    return Cell(cell.text, cell.order, shade=max(0, min(10, round(value * 10))))


def _count(things: Sequence[object], name: str) -> str:
    return f"{len(things)} {name}{'s' * (len(things) != 1)}"
