"""The cases of a prediction: a table, and the chosen one in the viewer with all its objects."""

from collections.abc import Mapping, Sequence

from moe_pipeline.journal.case_errors import CaseError
from moe_pipeline.records.cases import CaseRow
from moe_pipeline.report.page.blocks import (
    UNKNOWN,
    Block,
    Cell,
    Column,
    PageSection,
    Prose,
    ShownCase,
    ShownObject,
    Table,
    Viewer,
)
from moe_pipeline.report.page.names import Names
from moe_pipeline.report.runs.ranked import RankedCase, score_cell, who
from moe_pipeline.report.runs.results import Results
from moe_pipeline.report.scans.gather import Found
from moe_pipeline.report.scans.scan import SmallScan

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


def case_section(
    results: Results, ranked: Sequence[RankedCase], scans: Mapping[str, Found], names: Names
) -> PageSection:
    """The table of cases, and each of them to look at.

    Args:
        results: of the run.
        ranked: its cases, in the order they are shown in.
        scans: copies of some of them.
        names: what they are called.
    """
    scored = bool((results.scores["status"] == "ok").any())
    columns = [Column("Case")]
    if scored:
        note = "with the lowest Dice"
        columns += [Column("Dice", True, "mean over the classes"), Column("Lowest", True), Column("Class", note=note)]
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


def _case_cells(one: RankedCase, names: Names, *, scored: bool, answered: bool) -> tuple[Cell, ...]:
    cells = [Cell(names.case(one.case), tone="bad" if one.failed else "")]
    if scored:
        mean = sum(one.dice) / len(one.dice) if one.dice else None
        worst = one.scores.dropna(subset=["dice"]).sort_values("dice").head(1)
        lowest = (
            [Cell.number(float(worst["dice"].iloc[0])), Cell(str(worst["class_name"].iloc[0]))] if len(worst) else []
        )
        cells += [score_cell(mean), *(lowest or [Cell.number(None), Cell("")])]
    elif answered:
        cells.append(Cell.number(sum(row.volume_ml or 0 for row in one.rows), 2))
    if answered:
        cells.append(Cell(", ".join(dict.fromkeys(who(row) for row in one.rows if row.expert)) or UNKNOWN))
    remarks = [f"{row.class_name}: not found" for row in one.rows if row.status == "absent"]
    remarks += ["unknown image"] if any(row.in_distribution == "no" for row in one.rows) else []
    remarks += ["failed"] if one.failed else []
    cells.append(Cell("; ".join(remarks), tone="warn" if remarks and not one.failed else ""))
    return tuple(cells)


def _shown(one: RankedCase, found: Found, names: Names, *, scored: bool) -> ShownCase:
    name = names.case(one.case)
    objects = tuple(_object_rows(one, names, scored=scored))
    if isinstance(found, SmallScan):
        return ShownCase(name, objects, found.scan, found.volumes, found.still, found.remark)
    remark = names.text(found.message) if isinstance(found, CaseError) else "There is no image to show."
    return ShownCase(name, objects, remark=remark)


def _object_rows(one: RankedCase, names: Names, *, scored: bool) -> list[ShownObject]:
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
        Cell(who(row)),
        Cell.number(row.weight, 2),
        Cell(row.in_distribution or UNKNOWN, tone="warn" if row.in_distribution == "no" else ""),
        Cell(UNKNOWN if row.n_clicks is None else str(row.n_clicks)),
        Cell.number(row.volume_ml, 2),
    )


def _metric_cells(one: RankedCase, value: int, *, first: bool) -> tuple[Cell, ...]:
    own = one.scores[one.scores["class_id"] == value].head(1)
    if own.empty or not first:
        return Cell(""), Cell(""), Cell("")
    score = own.iloc[0]
    return score_cell(score["dice"]), Cell.number(score["hd95_mm"], 1), Cell.number(score["volume_reference_ml"], 2)


def _classes(results: Results) -> dict[int, str]:
    named = {row.class_id: row.class_name for row in results.rows if row.class_id}
    for value, name in results.scores[["class_id", "class_name"]].dropna().itertuples(index=False):
        named[int(value)] = str(name) or named.get(int(value), "")
    return {value: name or f"class {value}" for value, name in sorted(named.items()) if value}
