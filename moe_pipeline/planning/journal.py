"""Fingerprints of single cases, kept as they are made, so that a killed run continues and a second one need not read.

One line of JSON per case. A line that was cut off by a crash is no JSON and is ignored.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import TextIO

from pydantic import ValidationError

from moe_pipeline.planning.dataset import Case, RawDataset
from moe_pipeline.planning.fingerprint import case_files, description_sha256
from moe_pipeline.records.planning import CaseFingerprint


class Journal:
    """Write access to the lines of one dataset; safe to use from several threads."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lock = Lock()

    def add(self, fingerprint: CaseFingerprint) -> None:
        """Append one line."""
        with self._lock:
            self._stream.write(fingerprint.model_dump_json() + "\n")
            self._stream.flush()


@contextmanager
def open_journal(path: Path) -> Iterator[Journal]:
    """Append to a journal; a line that was cut off is ended first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as stream:
        if stream.tell() > 0:
            stream.write("\n")
        yield Journal(stream)


def read_journal(path: Path, dataset: RawDataset) -> dict[str, CaseFingerprint]:
    """Fingerprints that still hold: same files, same dataset.json. Later lines replace earlier ones."""
    if not path.is_file():
        return {}
    known: dict[str, CaseFingerprint] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            fingerprint = CaseFingerprint.model_validate_json(line)
        except ValidationError:
            continue  # cut off, or written by another version
        known[fingerprint.case_id] = fingerprint
    expected = description_sha256(dataset.json)
    return {
        case.case_id: known[case.case_id]
        for case in dataset.cases
        if case.case_id in known and _holds(known[case.case_id], case, dataset.folder, expected)
    }


def _holds(fingerprint: CaseFingerprint, case: Case, folder: Path, expected: str) -> bool:
    files = case_files(case)
    if fingerprint.description_sha256 != expected or len(fingerprint.files) != len(files):
        return False
    return all(stamp.fits(path, folder) for stamp, path in zip(fingerprint.files, files, strict=True))
