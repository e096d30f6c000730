"""The page of a check: what is wrong with which case, and what to do."""

from collections import Counter
from pathlib import Path

from moe_pipeline.paths import CheckFolder
from moe_pipeline.records.check import SEVERITIES, CheckReport, Finding
from moe_pipeline.report.page.blocks import Block, Cell, Column, Figures, Folded, Page, PageSection, Prose, Table, Tone
from moe_pipeline.report.page.names import Names

_TONES: dict[str, Tone] = {"error": "bad", "warning": "warn", "note": ""}
_MEANING = {
    "error": "the case is not used",
    "warning": "it is used, but look at it",
    "note": "it is handled",
}


def check_page(folder: Path, *, anonymous: bool = False) -> Page:
    """The page of a folder with check.json."""
    report = CheckReport.load(folder / CheckFolder.REPORT)
    names = Names.of((one.case_id for one in report.findings if one.case_id), anonymous=anonymous)
    source = names.title(Path(report.source))
    return Page(
        title=f"Check of {source}" if source else "Check of a dataset",
        kind="check",
        lead=_lead(report),
        sections=tuple(_sections(report, names)),
        facts=(
            ("source", names.path(report.source)),
            ("read as", report.source_format),
            ("seconds", f"{report.seconds:.1f}"),
        ),
    )


def _lead(report: CheckReport) -> str:
    faulty = len({one.case_id for one in report.errors if one.case_id})
    if not report.findings:
        return f"Nothing is wrong with its {report.cases} cases."
    if not report.errors:
        return f"All {report.cases} cases can be used. Look at the warnings."
    return f"{faulty} of {report.cases} cases cannot be used as they are."


def _sections(report: CheckReport, names: Names) -> list[PageSection]:
    counts = Counter(one.severity for one in report.findings)
    figures = [(str(report.cases), "cases looked at", report.source_format)]
    figures += [(str(counts[severity]), f"{severity}s", _MEANING[severity]) for severity in SEVERITIES]
    sums: list[Block] = [Prose(names.text(line.strip())) for one in report.accounting for line in one.lines()]
    sections = [PageSection("What was found", (Figures(tuple(figures)), Folded("Cases and files", tuple(sums))))]
    if report.findings:
        sections.append(PageSection("By case", (_table(report, names),), "Errors first. A header sorts."))
    kinds = Counter((one.kind.value, one.severity) for one in report.findings)
    if len(kinds) > 1:
        rows = tuple(
            (Cell(_words(kind)), Cell(severity, tone=_TONES[severity]), Cell.whole(n))
            for (kind, severity), n in kinds.most_common()
        )
        sections.append(
            PageSection("By kind", (Table((Column("Kind"), Column("Severity"), Column("Findings", True)), rows),))
        )
    return sections


def _table(report: CheckReport, names: Names) -> Table:
    columns = ("Case", "Severity", "Kind", "File", "Found", "Expected", "What to do", "--fix")
    rows = tuple(_row(one, names) for one in report.findings)
    return Table(tuple(Column(name) for name in columns), rows)


def _row(one: Finding, names: Names) -> tuple[Cell, ...]:
    severity = float(SEVERITIES.index(one.severity))
    return (
        Cell(names.case(one.case_id) or "whole dataset"),
        Cell(one.severity, severity, tone=_TONES[one.severity]),
        Cell(_words(one.kind.value)),
        Cell(names.path(one.file) if one.file else ""),
        Cell(names.text(one.found)),
        Cell(names.text(one.expected)),
        Cell(names.text(one.repair)),
        Cell(one.fix or ""),
    )


def _words(kind: str) -> str:
    return kind.replace("_", " ")
