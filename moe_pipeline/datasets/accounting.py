"""Everything that lies in a folder, and what became of it: one rule for every source and for planning."""

import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from moe_pipeline.files import is_folder
from moe_pipeline.imaging.io.formats import fault_of_format, files_read, has_image_suffix
from moe_pipeline.records.cases import Accounting, LeftOut

_MAX_EXAMPLES = 5
_DESCRIPTIONS = ("dataset.json", "dataset_description.json", "participants.tsv", "splits_final.json", "meta.csv")
COUNTED = "counted by numTraining in dataset.json, but not here; copy them, or correct the number"
"""Reason of the cases that are only a number."""
_OF_A_CASE = "of cases that were left out"


@dataclass(frozen=True, slots=True)
class Entry:
    """Something that lies in a folder."""

    path: Path
    closed: str = ""
    """Why it cannot be opened; empty if it can."""


@dataclass(frozen=True, slots=True)
class Handled:
    """What became of the cases of a folder."""

    used: Mapping[str, Collection[Path]]
    """Case id to its files."""
    left_out: Mapping[str, str]
    """Case id to the reason."""
    files_left_out: Mapping[Path, str]
    """File to the reason, where more is known than its name says."""
    n_missing: int = 0
    """Training cases that the description counts beyond those that are here."""


def walk(folder: Path) -> list[Entry]:
    """All visible files, and folders and links that cannot be followed; hidden folders such as .git are not seen."""
    return sorted(_walk(folder, {folder.resolve()}), key=lambda entry: entry.path)


def account_for(folder: Path, entries: Iterable[Entry], outcome: Handled) -> tuple[Accounting, Accounting]:
    """The sums of cases and of files.

    Args:
        folder: that was walked.
        entries: what lies in it.
        outcome: what became of the cases.
    """
    reasons: dict[str, list[str]] = {}
    for case_id, why in sorted(outcome.left_out.items()):
        reasons.setdefault(why, []).append(case_id)
    left = tuple(_left_out(why, names) for why, names in reasons.items())
    if outcome.n_missing:
        left = (*left, LeftOut(reason=COUNTED, count=outcome.n_missing, examples=()))
    n_used, n_left = len(outcome.used), sum(one.count for one in left)
    cases = Accounting(of="cases", found=n_used + n_left, used=n_used, left_out=left)
    return cases, _files(folder, entries, outcome)


def _files(folder: Path, entries: Iterable[Entry], outcome: Handled) -> Accounting:
    used = {_plain(file) for files in outcome.used.values() for path in files for file in _files_of(path)}
    known = {_plain(file): why for path, why in outcome.files_left_out.items() for file in _files_of(path)}
    closed = {_plain(entry.path): entry.closed for entry in entries}
    reasons: dict[str, list[str]] = {}
    n_used = 0
    for name in sorted({*closed, *used, *known}):
        path = Path(name)
        shown = path.relative_to(folder.absolute()).as_posix() if path.is_relative_to(folder.absolute()) else name
        if name in used or (shown in _DESCRIPTIONS and not closed.get(name)):
            n_used += 1
        else:
            reasons.setdefault(closed.get(name) or known.get(name) or _reason(path), []).append(shown)
    left = tuple(_left_out(why, names) for why, names in sorted(reasons.items(), key=lambda item: -len(item[1])))
    return Accounting(of="files", found=n_used + sum(one.count for one in left), used=n_used, left_out=left)


def of_left_out(files: Iterable[Path]) -> dict[Path, str]:
    """The reason of files whose case was left out, which says why itself."""
    return dict.fromkeys(files, _OF_A_CASE)


def _walk(folder: Path, seen: set[Path]) -> Iterator[Entry]:
    try:
        inside = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        yield Entry(folder, f"folders that cannot be opened ({error.strerror})")
        return
    for found in inside:
        path = Path(found.path)
        try:
            there, is_folder = path.exists(), found.is_dir()
        except OSError as error:  # a folder that may be listed, but not entered
            yield Entry(path, f"files that cannot be opened ({error.strerror})")
            continue
        if not there:
            yield Entry(path, "links to files that are not there (content that was not fetched, as by datalad get?)")
        elif not is_folder:
            yield Entry(path, "" if os.access(path, os.R_OK) else "files that cannot be opened (Permission denied)")
        elif path.name[0] != "." and path.name != "__MACOSX" and (place := path.resolve()) not in seen:
            seen.add(place)  # links may run in circles
            yield from _walk(path, seen)


def _files_of(path: Path) -> Iterator[Path]:
    """A file with those that it refers to; the files of a DICOM folder."""
    if is_folder(path):
        yield from (file for file in path.iterdir() if not is_folder(file))
    else:
        yield from files_read(path)


def _plain(path: Path) -> str:
    return os.path.normpath(path.absolute())


def _reason(path: Path) -> str:
    if path.name.startswith("."):
        return "hidden files (names that begin with a dot)"
    if why := fault_of_format(path):
        return f"files that are not read ({why})"
    return "images that belong to no case by their names" if has_image_suffix(path) else "files that are no images"


def _left_out(reason: str, names: list[str]) -> LeftOut:
    return LeftOut(reason=reason, count=len(names), examples=tuple(names[:_MAX_EXAMPLES]))
