"""Tracebacks of unforeseen errors while many cases are read, in one file."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from moe_pipeline.files import append_line
from moe_pipeline.journal.case_errors import is_full, message_of

_Result = TypeVar("_Result")
CRASHES = "crashes.log"
"""Name of the file, in the folder of the run."""


class CrashLog:
    """Tracebacks of one run, one after the other; safe to use from several threads and processes."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / CRASHES

    def guarded(self, case_id: str, work: Callable[[], _Result], rescue: Callable[[str], _Result]) -> _Result:
        """The result of a case, or what `rescue` makes of the message of any error.

        Raises:
            OSError: if the disk is full, which the next case would not survive either.
        """
        try:
            return work()
        except Exception as error:
            if is_full(error):
                raise
            return rescue(message_of(case_id, error, lambda trace: self._keep(case_id, trace)))

    def _keep(self, case_id: str, trace: str) -> Path:
        append_line(self.path, f"{case_id}\n{trace}")
        return self.path
