"""What goes wrong with a case costs that case, whatever it is, and never the run."""

import errno
import logging
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

from moe_pipeline.errors import PipelineError, in_words
from moe_pipeline.journal.written import Written

_log = logging.getLogger(__name__)

_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
_FOLDER = "errors"

_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class CaseError:
    """Why a case could not be handled.

    Attributes:
        message: for its row.
    """

    message: str


def guarded(case: str, own: Written | None, work: Callable[[], _Result]) -> _Result | CaseError:
    """Do a piece of work on a case; what it raises becomes the case's error.

    An unforeseen error leaves its traceback in `errors/<case>.txt`.

    Args:
        case: case id.
        own: what is ours in the output folder; None where nothing is written: the traceback is logged then.
        work: what to do.

    Raises:
        OSError: if the disk is full, which the next case would not survive either.
    """
    try:
        return work()
    except Exception as error:
        if is_full(error):
            raise
        return CaseError(message_of(case, error, partial(_keep_in, own, case)))


def error_file(case: str) -> str:
    """Where the traceback of a case is written, relative to the output folder."""
    return f"{_FOLDER}/{case}.txt"


def is_full(error: BaseException) -> bool:
    """Whether the disk, or what the user may take of it, is full."""
    return isinstance(error, OSError) and error.errno in _NO_SPACE


def message_of(case: str, error: Exception, keep: Callable[[str], Path | None]) -> str:
    """An error as the row of its case tells it; the traceback of one that is none of ours is kept.

    Args:
        case: case id.
        error: what was raised.
        keep: given the traceback, writes it down and returns the file; None if there is no folder to write to.

    Raises:
        OSError: if the disk is full.
    """
    if isinstance(error, PipelineError):
        return str(error) or f"{case}: {type(error).__name__}"
    if isinstance(error, OSError):
        return f"{case}: {in_words(error)}"
    if isinstance(error, MemoryError) or _is_out_of_memory(error):
        return f"{case}: not enough memory for this case ({error or type(error).__name__}); close other programs"
    text = f"{case}: {type(error).__name__}: {error}. This is an error of moe; please report it"
    trace = "".join(traceback.format_exception(error))
    try:
        kept = keep(trace)
    except (PipelineError, OSError) as also:
        if is_full(also):
            raise
        _log.error("%s", trace)
        return f"{text} (the traceback could not be written: {also})"
    if kept is None:
        _log.error("%s", trace)
        return text
    return f"{text} with {kept}"


def _keep_in(own: Written | None, case: str, trace: str) -> Path | None:
    if own is None:
        return None
    own.write_text(error_file(case), trace)
    return own.folder / error_file(case)


def _is_out_of_memory(error: Exception) -> bool:
    """Whether torch found too little memory, on the device or, where it has no class of its own, on the processor."""
    text = str(error)
    return type(error).__name__ == "OutOfMemoryError" or ("DefaultCPUAllocator" in text and "allocate" in text)
