"""The page of a prediction or an evaluation: scores by class, every case worst first, and the scans."""

import math
from collections.abc import Sequence
from itertools import groupby

import pandas as pd

from moe_pipeline.evaluation.summary import ALL_CLASSES, summarise
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
    Table,
)
from moe_pipeline.report.page.names import Names
from moe_pipeline.report.runs.case_viewer import case_section
from moe_pipeline.report.runs.facts import facts_of
from moe_pipeline.report.runs.ranked import GENERAL, RankedCase, count, score_cell
from moe_pipeline.report.runs.results import Results
from moe_pipeline.report.scans.gather import gather_scans


def prediction_page(results: Results, options: ReportOptions, progress: Progress = silent) -> Page:
    """The whole page of a prediction, an evaluation, or both."""
    names = Names.of(results.cases, anonymous=options.anonymous)
    ranked = [RankedCase.of(case, results) for case in results.cases]
    ranked.sort(key=RankedCase.rank)
    scans = gather_scans([one.case for one in ranked if not one.failed], results.files_of, options, progress)
    sections = [_summary(results, ranked, names)]
    if failed := [one for one in ranked if one.failed]:
        sections.append(_failures(failed, names))
    sections.append(case_section(results, ranked, scans, names))
    title, word = names.title(results.folder), "Predictions" if results.rows else "Evaluation"
    return Page(
        title=f"{word} in {title}" if title else word,
        kind="prediction" if results.rows else "evaluation",
        lead=_lead(results, ranked, names),
        sections=tuple(sections),
        facts=facts_of(results.record, names),
    )


def _lead(results: Results, ranked: Sequence[RankedCase], names: Names) -> str:
    scored = [one for one in ranked if one.dice]
    if not scored:
        done = sum(not one.failed for one in ranked)
        return f"{done} of {len(ranked)} scans were segmented. There are no references, so nothing is scored."
    worst = scored[0]
    table = summarise(results.scores)
    mean = table.iloc[-1]
    classes = f"{len(table) - 1} classes" if mean["class_name"] == ALL_CLASSES else str(mean["class_name"])
    return (
        f"Mean Dice {mean['mean']:.3f} over {classes} of {count(scored, 'case')}. The lowest, "
        f"{min(worst.dice):.3f}, is in {names.case(worst.case)}."
    )


def _summary(results: Results, ranked: Sequence[RankedCase], names: Names) -> PageSection:
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


def _figures(results: Results, ranked: Sequence[RankedCase]) -> list[tuple[str, str, str]]:
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
                score_cell(one["mean"]),
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


def _failures(failed: Sequence[RankedCase], names: Names) -> PageSection:
    rows = tuple(
        (Cell(names.case(one.case), tone="bad"), Cell(names.text("; ".join(dict.fromkeys(one.messages)))))
        for one in failed
    )
    return PageSection(
        "Failed", (Table((Column("Case"), Column("Reason")), rows),), f"{count(failed, 'case')} gave no result."
    )
