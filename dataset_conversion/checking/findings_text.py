"""Findings for people: a table for the terminal, and a text with all there is to say."""

from collections import Counter
from itertools import groupby

from moe_pipeline.records.check import CheckReport, Finding

_MAX_ROWS = 40
_MIN_CELL = 40
_DATASET = "(dataset)"
_HEAD = ("case", "severity", "kind", "--fix", "found")


def as_table(report: CheckReport, columns: int | None = None) -> str:
    """One line per finding, errors first; shortened to a number of columns if one is given."""
    rows = [_HEAD, *(_row(one) for one in report.findings[:_MAX_ROWS])]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEAD) - 1)]
    room = None if columns is None else max(columns - sum(widths) - 2 * len(widths), _MIN_CELL)
    lines = [
        "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), _cut(row[-1], room)])
        for row in rows
    ]
    left = len(report.findings) - _MAX_ROWS
    more = [f"... and {left} more"] if left > 0 else []
    sums = [_cut(line, columns) for line in _sums(report)]
    return "\n".join([report.summary(), *(lines if report.findings else []), *more, *sums])


def _sums(report: CheckReport) -> list[str]:
    return [line for one in report.accounting for line in one.lines()]


def findings_as_text(report: CheckReport) -> str:
    """Everything, grouped by case, with what was expected and what to do."""
    counts = Counter(one.kind for one in report.findings)
    told = ", ".join(f"{kind.value}: {n}" for kind, n in counts.most_common())
    ordered = sorted(report.findings, key=lambda one: one.case_id)
    parts = [report.summary() + (f"\nBy kind: {told}" if told else "")]
    for case_id, findings in groupby(ordered, key=lambda one: one.case_id):
        parts.append("\n".join([case_id or _DATASET, *(_paragraph(one) for one in findings)]))
    return "\n\n".join([*parts, *["\n".join(_sums(report))] * bool(report.accounting)]) + "\n"


def _paragraph(one: Finding) -> str:
    return f"  {one.severity}: {one.kind.value}: {one.message}\n    expected: {one.expected}\n    to do: {one.repair}"


def _row(one: Finding) -> tuple[str, str, str, str, str]:
    return one.case_id or _DATASET, one.severity, one.kind.value, one.fix or "-", one.message.replace("\n", " ")


def _cut(text: str, room: int | None) -> str:
    return text if room is None or len(text) <= room else text[: room - 3] + "..."
