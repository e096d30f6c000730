"""The page that a command writes when it is done. It must not cost the run: what goes wrong with it is said."""

import os
import sys
import webbrowser
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from moe_pipeline.journal.case_errors import CaseError, guarded
from moe_pipeline.progress import Progress, silent
from moe_pipeline.report.options import ReportOptions
from moe_pipeline.report.write import write_report


def report_line(
    runs: Sequence[Path], options: ReportOptions | None = None, progress: Progress = silent, *, show: bool = False
) -> str:
    """Write the page of a run that has just ended.

    Args:
        runs: its folder; of several folders the first gets the page.
        options: see there.
        progress: told after each case.
        show: also open it in the browser, if there is a display.

    Returns:
        Where the page is, or why there is none.
    """
    found = guarded("report", None, partial(write_report, list(runs), None, options or ReportOptions(), progress))
    if isinstance(found, CaseError):
        return f"no report: {found.message}"
    if show:
        open_page(found)
    return f"report: {found}"


def open_page(path: Path) -> None:
    """Show a page in the browser; nothing happens where there is no display."""
    display = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    if display or sys.platform in ("darwin", "win32"):
        webbrowser.open(path.resolve().as_uri())
