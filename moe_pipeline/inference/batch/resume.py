"""What is done of a folder and with what, kept in finished.jsonl, so that a run goes on where another one stopped."""

from collections.abc import Sequence
from pathlib import Path

from moe_pipeline.journal.journal import Journal
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
        out: the folder.
        images: folder of the images; whether it moves does not matter.
        description_sha256: of this run.
    """

    def __init__(self, out: Path, images: Path, description_sha256: str) -> None:
        self._out = out
        self._description = description_sha256
        self._journal = Journal(out / FINISHED, FinishedCase, images, description_sha256)

    def find(self, case: str, files: Sequence[Path], prompts_sha256: str) -> FinishedCase | None:
        """What is known of a case, if its inputs are the same and everything that was written is there."""
        line = self._journal.find(case, files)
        if line is None or line.prompts_sha256 != prompts_sha256:
            return None
        return line if all((self._out / name).is_file() for name in line.written) else None

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
