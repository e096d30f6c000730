"""Which cases are converted, and from which files; kept as they are done, so that a killed conversion continues."""

from collections.abc import Iterable
from pathlib import Path

from dataset_conversion.layout import SourceCase, SourceDataset
from moe_pipeline.files import sha256_json
from moe_pipeline.imaging.io.formats import files_read
from moe_pipeline.journal.crashes import CrashLog
from moe_pipeline.journal.journal import Journal
from moe_pipeline.journal.written import Written
from moe_pipeline.paths import RawFolder
from moe_pipeline.records.dataset import ConvertedCase
from moe_pipeline.records.stamp import FileStamp

STATE = RawFolder.CONVERTED


class ConversionState:
    """The finished cases of one conversion; safe to use from several threads."""

    def __init__(self, path: Path, source: Path, dataset: SourceDataset, own: Written | None = None) -> None:
        self._description = description_sha256(dataset)
        self._journal = Journal(path, ConvertedCase, source, self._description)
        self.own = Written(path) if own is None else own
        """What is ours in the new dataset."""
        self.crashes = CrashLog(self.own.folder)
        """Where errors that nobody foresaw are written down."""

    def find(self, case: SourceCase) -> ConvertedCase | None:
        """What is known of a case, if it was made from these very files and checked against the same description."""
        return self._journal.find(case.case_id, files_of(case))

    def take(self, path: Path) -> None:
        """Note what a worker elsewhere has noted of the cases that it has done."""
        self.own.take(path)
        self._journal.take(path)

    def stamp(self, case: SourceCase) -> tuple[FileStamp, ...]:
        """The files of a case as they are now."""
        return self._journal.stamp(files_of(case))

    def add(self, case: SourceCase, stamps: tuple[FileStamp, ...], values: list[int], message: str) -> None:
        """Append the line of a finished case.

        Args:
            case: what was converted.
            stamps: its files before they were read: they may have changed meanwhile.
            values: distinct values of the label that was written.
            message: what was changed on the way.
        """
        self._journal.add(
            ConvertedCase(
                case_id=case.case_id,
                description_sha256=self._description,
                files=stamps,
                label_values=tuple(values),
                message=message,
            )
        )

    def label_values(self, case_ids: Iterable[str]) -> list[int]:
        """Distinct label values of finished cases."""
        return sorted({value for case_id in case_ids for value in self._journal.known[case_id].label_values})


def description_sha256(dataset: SourceDataset) -> str:
    """Hash of what cases are checked against, and of what else changes the outcome."""
    value_map = sorted((dataset.value_map or {}).items())
    return sha256_json([dataset.channel_names, dataset.labels, value_map, dataset.settings])


def files_of(case: SourceCase) -> list[Path]:
    """Every file that a case is made from."""
    return [file for path in (*case.images, *case.labels) for file in files_read(path)]
