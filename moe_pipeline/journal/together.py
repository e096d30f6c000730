"""Several files that belong together appear together, or not at all, also where the process is killed in between."""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from moe_pipeline.files import remove_leftovers, temporary_for
from moe_pipeline.journal.written import files_below

_COMPLETE = ".moe-complete."


@contextmanager
def written_together(folder: Path, name: str, check: Callable[[Path], None]) -> Iterator[Path]:
    """Yield an empty folder; what is written below it moves to the same places in `folder` when the block ends well.

    The renaming of that folder decides: before it nothing has happened, after it `finish_moves` completes what was
    begun.

    Args:
        folder: where the files are to be.
        name: of the group; nobody else may write it at the same time.
        check: is shown the complete folder and may refuse by raising.
    """
    folder.mkdir(parents=True, exist_ok=True)
    finish_moves(folder)
    staged = temporary_for(folder / name)
    shutil.rmtree(staged, ignore_errors=True)
    staged.mkdir()
    try:
        yield staged
        for file in files_below(staged):
            with (staged / file).open("rb") as stream:
                os.fsync(stream.fileno())
        check(staged)
        staged.replace(folder / f"{_COMPLETE}{name}")
    finally:
        shutil.rmtree(staged, ignore_errors=True)
    finish_moves(folder)


def finish_moves(folder: Path) -> None:
    """Complete what a killed process has decided, and remove what it has not."""
    remove_leftovers(folder)
    for complete in sorted(folder.glob(f"{_COMPLETE}*")):
        for file in files_below(complete):
            final = folder / file
            final.parent.mkdir(parents=True, exist_ok=True)
            (complete / file).replace(final)
        shutil.rmtree(complete, ignore_errors=True)
