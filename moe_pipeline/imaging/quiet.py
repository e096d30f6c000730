"""A lock under which ITK's readers are called, and which keeps off the terminal what they write there themselves.

Its MetaImage and NIfTI readers write lines of their own to stderr, beside the exceptions that we report.
"""

import os
import re
import sys
from tempfile import TemporaryFile
from threading import Lock
from typing import IO

_STDERR = 2
_ITKS = re.compile(
    rb"(?:MetaObject|MetaImage|MetaIO|MET_\w*|itk::\w+|(?:WARNING|ERROR): In|\*\* ?(?:ERROR|WARNING|warning)|nifti_\w+|"
    rb"\w+Factory|Error in \w+|Incomplete file record)\b|.*(?:required and not defined|defined prior to defining)"
)


class QuietLock:
    """One reader at a time. What other threads write to stderr meanwhile is passed on when it is done."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._caught: IO[bytes] | None = None
        self._stderr = -1

    def __enter__(self) -> None:
        self._lock.acquire()
        try:
            if sys.stderr is not None:
                sys.stderr.flush()
            self._stderr = os.dup(_STDERR)
            self._caught = TemporaryFile()
            os.dup2(self._caught.fileno(), _STDERR)
        except OSError:  # there is no stderr, or no room for a file: then ITK may write what it likes
            self._restore()

    def __exit__(self, *_: object) -> None:
        try:
            for line in self._restore():
                if not _ITKS.match(line.strip()):
                    os.write(_STDERR, line)
        finally:
            self._lock.release()

    def _restore(self) -> list[bytes]:
        """Put stderr back; the lines that were written meanwhile."""
        caught, self._caught = self._caught, None
        if self._stderr >= 0:
            os.dup2(self._stderr, _STDERR)
            os.close(self._stderr)
            self._stderr = -1
        if caught is None:
            return []
        with caught:
            caught.seek(0)
            return caught.readlines()
