"""An unforeseen error costs its own case, never the run; its traceback is kept in a file."""

import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from moe_pipeline.errors import PipelineError
from moe_pipeline.files import append_line

_Result = TypeVar("_Result")
CRASHES = "crashes.log"
"""Name of the file, in the folder of the run."""


class CrashLog:
    """Tracebacks of one run, one after the other; safe to use from several threads and processes."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / CRASHES

    def guarded(self, case_id: str, work: Callable[[], _Result], rescue: Callable[[str], _Result]) -> _Result:
        """The one outer guard around a case: its result, or what `rescue` makes of the message of any error."""
        try:
            return work()
        except Exception as error:  # noqa: BLE001 - written down with its traceback, and a row of the report
            return rescue(self._message_of(case_id, error))

    def _message_of(self, case_id: str, error: Exception) -> str:
        """An error as the row of its case says it; one that is none of ours is written down with its traceback."""
        if isinstance(error, PipelineError | OSError):
            return str(error)
        append_line(self.path, f"{case_id}\n{''.join(traceback.format_exception(error))}")
        return (
            f"could not be handled: {type(error).__name__}: {error}. The traceback is in {self.path}; please report it"
        )
