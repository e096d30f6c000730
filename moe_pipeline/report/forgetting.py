"""The forgetting matrix in words and tables, for terminals and pages."""

from collections.abc import Callable, Iterator

import pandas as pd

from moe_pipeline.evaluation.forgetting.compare import Comparison, MatrixReport
from moe_pipeline.evaluation.forgetting.matrix import MOE
from moe_pipeline.report.tables import as_text

TableMaker = Callable[[pd.DataFrame], str]


def matrix_as_text(report: MatrixReport, as_table: TableMaker = as_text) -> str:
    """Every table of a report, what was forgotten, and the view of each column.

    Args:
        report: of `compare`.
        as_table: `as_text`, or `as_markdown` for pages.
    """
    parts = [part for comparison in report.comparisons for part in _comparison(comparison, as_table)]
    views = "\n".join(f"  {column}: {view}" for column, view in report.views.items())
    parts.append(
        "Every object is scored on its own mask. All models get the same first click on an object; later clicks answer "
        f"each model's own errors. What each column's decoders see:\n{views}"
    )
    if report.failures:
        parts.append("Not compared:\n" + "\n".join(f"  {failure}" for failure in report.failures))
    return "\n\n".join(parts)


def _comparison(comparison: Comparison, as_table: TableMaker) -> Iterator[str]:
    clicks = "1 click" if comparison.n_clicks == 1 else f"{comparison.n_clicks} clicks"
    yield f"Mean Dice, {clicks} per object:\n\n{as_table(comparison.matrix)}"
    yield f"By set, {clicks}:\n\n{as_table(comparison.sets)}"
    lines = [
        f"  {row.model}: mean drop {row.mean_drop:+.4f} over {row.n_classes} classes, "
        f"largest {row.largest_drop:+.4f} ({row.largest_drop_at})"
        for row in comparison.forgetting
        if row.n_classes
    ]
    untouched = comparison.sets[comparison.sets["kind"] != "finetuned"]
    if lines:
        yield "Forgotten on sets that were not finetuned (drop against the foundation alone):\n" + "\n".join(lines)
        share = float((untouched["unchanged"] * untouched["prompts"]).sum() / untouched["prompts"].sum())
        yield f"There, {share:.1%} of {untouched['prompts'].sum()} masks of {MOE} are exactly the foundation's."
