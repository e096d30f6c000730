"""From the folder of a run to its page on disk."""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from moe_pipeline.errors import PipelineError
from moe_pipeline.files import write_text
from moe_pipeline.journal.written import Written
from moe_pipeline.paths import LOG_CSV, CheckFolder, GateFolder, MatrixFolder, PlanFolder, PredictionFolder
from moe_pipeline.progress import Progress, silent
from moe_pipeline.report.options import MEGABYTE, ReportOptions
from moe_pipeline.report.page.blocks import Page, Viewer
from moe_pipeline.report.page.render import as_html

REPORT_HTML = "report.html"
_JOURNALS = (PredictionFolder.FINISHED, "written.jsonl")
_SEAL = re.compile(rb"<!-- moe report ([0-9a-f]{64}) -->\n\Z")
_MOST_TRAININGS = 12


def write_report(
    runs: Sequence[Path],
    out: Path | None = None,
    options: ReportOptions = ReportOptions(),  # noqa: B008 - frozen
    progress: Progress = silent,
) -> Path:
    """Make the page of a run.

    Args:
        runs: folder of a prediction, evaluation, comparison, training, gate, plan or check; several trainings, or a
            folder above some, are shown beside each other, other runs one below the other.
        out: HTML file to write; report.html in the run's folder if None. A file that moe did not write, or that was
            changed since, is never replaced.
        options: see there.
        progress: told after each case.

    Returns:
        The file.

    Raises:
        PipelineError: if there is no run, its files are damaged, the page would be too large, or something is in the
            way.
    """
    target = out or runs[0] / REPORT_HTML
    _check_replaceable(target)
    text = as_html(page_of(runs, options, progress))
    if len(text.encode()) > options.max_bytes:
        size = len(text.encode()) / MEGABYTE
        raise PipelineError(f"the page would have {size:.1f} MB; give a larger --max-mb, or show fewer cases (--cases)")
    _write(target, text)
    return target


def page_of(runs: Sequence[Path], options: ReportOptions, progress: Progress = silent) -> Page:
    """The page of a run, as records; raises as `write_report`."""
    for folder in runs:
        if not folder.is_dir():
            raise PipelineError(f"{folder}: no such folder; expected one that a command of moe wrote")
    alone = [_single(folder, options, progress) for folder in runs] if not all(map(_is_training, runs)) else []
    if alone and all(alone):
        return joined([page for page in alone if page is not None])
    return _of_trainings(runs, options)


def _single(folder: Path, options: ReportOptions, progress: Progress) -> Page | None:
    """The page of one folder; None if it holds trainings, or nothing.

    What a kind of page needs is imported where there is such a run: the page of a plan waits neither for torch nor for
    pandas.
    """
    anonymous = options.anonymous
    if (folder / PredictionFolder.CASES).is_file() or (folder / PredictionFolder.METRICS).is_file():
        from moe_pipeline.report.runs.predictions import prediction_page
        from moe_pipeline.report.runs.results import read_results

        return prediction_page(read_results(folder, options), options, progress)
    if MatrixFolder(folder).matrices:
        from moe_pipeline.report.runs.matrix import matrix_page

        return matrix_page(folder, anonymous=anonymous)
    if GateFolder(folder).card.is_file():
        from moe_pipeline.report.runs.gates import gate_page

        return gate_page(folder, anonymous=anonymous)
    if PlanFolder(folder).plan.is_file():
        from moe_pipeline.report.runs.plans import plan_page

        return plan_page(folder, anonymous=anonymous)
    if (folder / CheckFolder.REPORT).is_file():
        from moe_pipeline.report.runs.checks import check_page

        return check_page(folder, anonymous=anonymous)
    return None


def _of_trainings(runs: Sequence[Path], options: ReportOptions) -> Page:
    """The page of all trainings in some folders."""
    trainings = [(log.parent, folder) for folder in runs for log in sorted(folder.rglob(LOG_CSV))]
    if not trainings:
        raise PipelineError(
            f"{', '.join(map(str, runs))}: no run that can be shown; expected the folder of a prediction, an "
            f"evaluation, a training, a model, a plan or a check{_inside(runs[0])}"
        )
    if len(trainings) > _MOST_TRAININGS:
        raise PipelineError(f"{len(trainings)} trainings are too many for one page; name at most {_MOST_TRAININGS}")
    from moe_pipeline.report.runs.trainings import read_training, training_page

    return training_page([read_training(folder, root) for folder, root in trainings], anonymous=options.anonymous)


def _is_training(folder: Path) -> bool:
    return (folder / LOG_CSV).is_file()


def joined(pages: Sequence[Page]) -> Page:
    """Several runs in one page, one below the other, with the title of the first.

    Raises:
        PipelineError: if more than one of them has scans to look at.
    """
    sections = tuple(section for page in pages for section in page.sections)
    if sum(isinstance(block, Viewer) for section in sections for block in section.blocks) > 1:
        raise PipelineError("a page shows the scans of one prediction; make a page for each")
    lead = " ".join(page.lead for page in pages)
    return replace(pages[0], lead=lead, sections=sections, facts=tuple(fact for page in pages for fact in page.facts))


def _inside(folder: Path) -> str:
    """Where in a workspace there is one."""
    names = (
        PredictionFolder.CASES,
        GateFolder.CARD,
        PlanFolder(Path()).plan.name,
        CheckFolder.REPORT,
        MatrixFolder.MATRICES,
    )
    found = sorted({path.parent for name in names for depth in ("*", "*/*") for path in folder.glob(f"{depth}/{name}")})
    return f". In it there are: {', '.join(map(str, found[:8]))}" if found else ""


def _check_replaceable(target: Path) -> None:
    """Refuse to replace a file that is not ours as we left it; our pages end with the hash of what stands before."""
    if target.is_dir():
        raise PipelineError(f"{target}: a folder, expected an HTML file to write")
    if not target.exists():
        return
    content = target.read_bytes()
    seal = _SEAL.search(content)
    if seal is None or hashlib.sha256(content[: seal.start()]).hexdigest().encode() != seal[1]:
        raise PipelineError(
            f"{target}: is in the way and was not written by moe, or was changed since; give another file (-o), or "
            "move it away"
        )


def _write(target: Path, text: str) -> None:
    """Write it sealed, and note it where the folder lists what is ours."""
    body = f"{text.rstrip()}\n"
    sealed = f"{body}<!-- moe report {hashlib.sha256(body.encode()).hexdigest()} -->\n"
    write_text(target, sealed)
    for journal in (target.parent / name for name in _JOURNALS):
        if journal.is_file():
            Written(journal).adopt([target.name])
