"""From the files of a case to what is asked of the model, and from its answer to files."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from moe_pipeline.imaging.geometry import Geometry
from moe_pipeline.imaging.io.files import load_image, write_label_map
from moe_pipeline.inference.batch.extra_outputs import ExtraOutputs
from moe_pipeline.inference.batch.prompt_sources import Prompting, channel_file
from moe_pipeline.inference.interactive.request import Request
from moe_pipeline.inference.interactive.segment_case import CaseResult, segment_case
from moe_pipeline.inference.options import SegmentOptions
from moe_pipeline.journal.case_errors import CaseError, error_file, guarded
from moe_pipeline.journal.written import Written
from moe_pipeline.mixture.model import Mixture
from moe_pipeline.records.cases import CaseRow
from moe_pipeline.records.stamp import FileStamp

_log = logging.getLogger(__name__)

_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class CaseTask:
    """A case to do.

    Attributes:
        case: case id.
        path: of its image.
    """

    case: str
    path: Path


@dataclass(frozen=True, slots=True)
class Ready:
    """A case that is read.

    Attributes:
        task: which.
        began: when reading began, on the monotonic clock.
        native: grid of the image as stored.
        files: stamps of what was read.
        request: for the model.
    """

    task: CaseTask
    began: float
    native: Geometry
    files: tuple[FileStamp, ...]
    request: Request


@dataclass(frozen=True, slots=True)
class Outcome:
    """What is to be remembered of a case.

    Attributes:
        rows: of cases.csv.
        files: stamps of what was read.
        written: files relative to the output folder; none for a case that failed.
    """

    rows: tuple[CaseRow, ...]
    files: tuple[FileStamp, ...] = ()
    written: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CaseFiles:
    """The places and the prompts of a run. It can be sent to another process.

    Attributes:
        images: folder of images.
        prompting: where clicks come from.
        channel: that the model looks at.
        options: how every object is answered.
        extras: what to write beside the label maps, and what is ours in their folder.
    """

    images: Path
    prompting: Prompting
    channel: int
    options: SegmentOptions
    extras: ExtraOutputs

    @property
    def own(self) -> Written:
        """What is ours in the folder of label maps."""
        return self.extras.own

    def inputs(self, task: CaseTask) -> list[Path]:
        """Every file that the answer depends on.

        Raises:
            ImageError: if the channel to look at is not there.
        """
        image = channel_file(task.path, self.channel)
        slices = sorted(path for path in image.iterdir() if path.is_file()) if image.is_dir() else [image]
        return slices + self.prompting.files_of(task.case)

    def read(self, task: CaseTask) -> Ready | Outcome:
        """Read a case; an outcome says why that is impossible."""
        began = time.monotonic()

        def reading() -> Ready:
            files = tuple(FileStamp.of(path, self.images) for path in self.inputs(task))
            image = load_image(channel_file(task.path, self.channel))
            return Ready(task, began, image.native, files, self.prompting.request(task.case, image))

        return self._attempt(task, began, reading)

    def answer(self, model: Mixture, ready: Ready | Outcome) -> CaseResult | Outcome:
        """Ask the model."""
        if isinstance(ready, Outcome):
            return ready
        request = ready.request
        return self._attempt(ready.task, ready.began, lambda: segment_case(model, request, self.options))

    def write(self, ready: Ready | Outcome, result: CaseResult | Outcome) -> Outcome:
        """Write what was found.

        Raises:
            OSError: if the disk is full, which the next case would not survive either.
        """
        if isinstance(ready, Outcome) or isinstance(result, Outcome):
            return result if isinstance(result, Outcome) else Outcome(result.rows)
        case, native = ready.task.case, ready.native

        def writing() -> Outcome:
            beside = self.extras.write(result, case, native, ready.task.path)
            with self.own.writing(f"{case}.nii.gz") as temporary:
                write_label_map(result.labels, temporary, native)
            self.own.remove(error_file(case))
            return Outcome(result.rows, ready.files, (f"{case}.nii.gz", *beside))

        return self._attempt(ready.task, ready.began, writing)

    def names(self, case: str) -> list[str]:
        """Every file that may be written or removed, relative to the output folder."""
        return [f"{case}.nii.gz", error_file(case), *self.extras.names(case)]

    def only(self, case: str) -> "CaseFiles":
        """The same for one case alone: small enough to be sent to a worker."""
        return replace(self, prompting=self.prompting.only(case), extras=self._noting(self.own.only(self.names(case))))

    def apart(self, own: Written) -> "CaseFiles":
        """The same, noting elsewhere what is written."""
        return replace(self, extras=self._noting(own))

    def _noting(self, own: Written) -> ExtraOutputs:
        return replace(self.extras, own=own)

    def forget(self, case: str) -> None:
        """Remove what we wrote of a case: an older answer must not pass for this run's."""
        self.own.remove(f"{case}.nii.gz")
        self.extras.forget(case)

    def _attempt(self, task: CaseTask, began: float, work: Callable[[], _Result]) -> _Result | Outcome:
        """Do a piece of work; an error costs the case, and no older answer is left of it."""
        result = guarded(task.case, self.own, work)
        if not isinstance(result, CaseError):
            return result
        message = result.message
        _log.warning("%s failed: %s", task.case, message)
        try:
            self.forget(task.case)
        except OSError as also:
            message += f" An older answer is still there: {also}"
        seconds = round(time.monotonic() - began, 3)
        return Outcome((CaseRow(case=task.case, status="failed", message=message, seconds=seconds),))
