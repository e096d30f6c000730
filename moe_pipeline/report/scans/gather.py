"""The scans of a page, one after the other, within what the page may weigh."""

from collections.abc import Callable, Sequence
from functools import partial

from moe_pipeline.errors import PipelineError
from moe_pipeline.journal.case_errors import CaseError, guarded
from moe_pipeline.progress import Progress, track
from moe_pipeline.report.options import MOST_CASES, ReportOptions
from moe_pipeline.report.page.render import base_bytes
from moe_pipeline.report.scans.scan import ScanFiles, SmallScan, small_scan

_MOST_BYTES = 4_000_000
_LEAST_BYTES = 40_000
_BYTES_PER_ROW = 2_500

Found = SmallScan | CaseError | None


def gather_scans(
    cases: Sequence[str], files_of: Callable[[str], ScanFiles | None], options: ReportOptions, progress: Progress
) -> dict[str, Found]:
    """A small copy of each case, the first ones first; no more than one case is in memory.

    Args:
        cases: ids, the most interesting first.
        files_of: where a case lies; None if nothing can be shown of it.
        options: size of the page and number of cases.
        progress: told after each case.

    Returns:
        By case id: its copy, why there is none, or None where there is nothing to copy.

    Raises:
        PipelineError: if not even the smallest copies fit; says what to do.
    """
    chosen = cases[: MOST_CASES if options.cases is None else options.cases]
    left = options.max_bytes - base_bytes() - _BYTES_PER_ROW * len(cases)
    found: dict[str, Found] = {}
    for number, case in enumerate(track(chosen, "report", progress)):
        share = min(left // (len(chosen) - number), _MOST_BYTES)
        if share < _LEAST_BYTES:
            raise PipelineError(
                f"{len(chosen)} cases do not fit into {options.max_mb:g} MB; give a larger --max-mb, or show fewer "
                "(--cases)"
            )
        found[case] = guarded(case, None, partial(_copy, case, files_of, share, number))
        copy = found[case]
        left -= copy.n_bytes if isinstance(copy, SmallScan) else 0
    return found


def _copy(case: str, files_of: Callable[[str], ScanFiles | None], share: int, number: int) -> SmallScan | None:
    files = files_of(case)
    return None if files is None else small_scan(files, f"v{number}", share)
