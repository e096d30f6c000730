"""Which cases are converted, and from which files; kept as they are done, so that a killed conversion continues.

One line of JSON per case. A line that was cut off by a crash is no JSON and is ignored.
"""

from collections.abc import Iterable
from pathlib import Path
from threading import Lock

from pydantic import ValidationError

from dataset_conversion.layout import SourceCase, SourceDataset
from moe_pipeline.files import sha256_json
from moe_pipeline.records.dataset import ConvertedCase
from moe_pipeline.records.stamp import FileStamp

STATE = "cases.jsonl"


class ConversionState:
    """The lines of one conversion; safe to use from several threads."""

    def __init__(self, path: Path, source: Path, dataset: SourceDataset) -> None:
        self._path = path
        self._source = source
        value_map = sorted((dataset.value_map or {}).items())
        self._description = sha256_json([dataset.channel_names, dataset.labels, value_map, dataset.settings])
        self._known = _read(path)
        self._lock = Lock()

    @property
    def case_ids(self) -> set[str]:
        """Cases that were ever converted into this folder."""
        return set(self._known)

    def is_current(self, case: SourceCase) -> bool:
        """Whether the case was converted from these very files, and checked against the same description."""
        known, files = self._known.get(case.case_id), _files(case)
        if known is None or known.description_sha256 != self._description or len(known.files) != len(files):
            return False
        return all(stamp.fits(path, self._source) for stamp, path in zip(known.files, files, strict=True))

    def stamp(self, case: SourceCase) -> tuple[FileStamp, ...]:
        """The files of a case as they are now."""
        return tuple(FileStamp.of(path, self._source) for path in _files(case))

    def add(self, case: SourceCase, stamps: tuple[FileStamp, ...], values: list[int]) -> None:
        """Append the line of a finished case.

        Args:
            case: what was converted.
            stamps: its files before they were read: they may have changed meanwhile.
            values: distinct values of the label that was written.
        """
        line = ConvertedCase(
            case_id=case.case_id, description_sha256=self._description, files=stamps, label_values=tuple(values)
        )
        with self._lock, self._path.open("a", encoding="utf-8") as stream:
            stream.write("\n" + line.model_dump_json() + "\n")  # whatever was cut off before ends here
            self._known[case.case_id] = line

    def label_values(self, case_ids: Iterable[str]) -> list[int]:
        """Distinct label values of finished cases."""
        return sorted({value for case_id in case_ids for value in self._known[case_id].label_values})


def _files(case: SourceCase) -> list[Path]:
    return [*case.images, *case.labels]


def _read(path: Path) -> dict[str, ConvertedCase]:
    if not path.is_file():
        return {}
    known: dict[str, ConvertedCase] = {}
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            case = ConvertedCase.model_validate_json(line)
        except ValidationError:
            continue  # cut off, or written by another version
        known[case.case_id] = case
    return known
