"""What is done of a folder and with what, kept in finished.jsonl, so that a run goes on where another one stopped."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from moe_pipeline.journal.journal import Journal
from moe_pipeline.journal.written import Written
from moe_pipeline.paths import PredictionFolder
from moe_pipeline.records.base import Part
from moe_pipeline.records.cases import CaseRow
from moe_pipeline.records.stamp import FileStamp

FINISHED = PredictionFolder.FINISHED


class FinishedCase(Part):
    """A case whose files are written."""

    case_id: str
    """Case id."""
    description_sha256: str
    """Hash of model, settings, and what is asked of all cases."""
    prompts_sha256: str
    """Hash of the case's own clicks."""
    files: tuple[FileStamp, ...]
    """The image, and label maps that clicks come from, with their hashes."""
    written: tuple[str, ...]
    """Files, relative to the output folder."""
    rows: tuple[CaseRow, ...]
    """Of cases.csv."""


class Finished:
    """The finished cases of an output folder.

    Args:
        own: what is ours in the folder.
        images: folder of the images; whether it moves does not matter.
        description_sha256: of this run.
    """

    def __init__(self, own: Written, images: Path, description_sha256: str) -> None:
        self._own = own
        self._description = description_sha256
        self._journal = Journal(own.folder / FINISHED, FinishedCase, images, description_sha256)

    def find(self, case: str, files: Sequence[Path], prompts_sha256: str) -> FinishedCase | None:
        """What is known of a case, if its inputs are the same and everything that was written is there."""
        line = self._journal.find(case, files)
        if line is None or line.prompts_sha256 != prompts_sha256:
            return None
        return line if all((self._own.folder / name).is_file() for name in line.written) else None

    def left_over(self, cases: Iterable[str]) -> list[str]:
        """Files of an earlier run whose cases are none of these."""
        there = set(cases)
        lines = (line for case, line in sorted(self._journal.known.items()) if case not in there)
        return [name for line in lines for name in line.written if (self._own.folder / name).is_file()]

    def add(
        self,
        case: str,
        files: tuple[FileStamp, ...],
        prompts_sha256: str,
        written: tuple[str, ...],
        rows: tuple[CaseRow, ...],
    ) -> None:
        """Note a case whose files are all written."""
        self._journal.add(
            FinishedCase(
                case_id=case,
                description_sha256=self._description,
                prompts_sha256=prompts_sha256,
                files=files,
                written=written,
                rows=rows,
            )
        )
