"""Where a run is told about: a table and a curve always, TensorBoard or anything else on request."""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

from moe_pipeline.charts import draw_learning_curve
from moe_pipeline.errors import PipelineError
from moe_pipeline.files import csv_text, write_text

LoggerName = Literal["tensorboard"]
Row = dict[str, float]
_REDRAWN_AFTER_S = 30.0


class RunLogger(Protocol):
    """Told of each validation, by the first of several processes only.

    After a run is gone on with, steps go on where its checkpoint ends. Only a run that was killed in the very moment
    of a validation tells that step twice, the second time with the same values.
    """

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Take over what is known after a step: seconds so far, loss, and the task's columns, "score" among them."""

    def close(self) -> None:
        """The run ended, well or not."""


class CsvLogger:
    """log.csv: a row per validation, the whole table written each time.

    Args:
        path: of the table; what an earlier run left there is replaced.
        rows: of the part of the run that is gone on with, "step" among their columns.
    """

    def __init__(self, path: Path, rows: Sequence[Mapping[str, float]] = ()) -> None:
        self.path = path
        self._rows: list[Row] = [dict(row) for row in rows]

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Add a row."""
        self._rows.append({"step": step, **values})
        write_text(self.path, csv_text(list(self._rows[0]), self._rows))

    def close(self) -> None:
        """All is written already."""


class CurveLogger:
    """curve.png: loss and validation over the steps, the best one marked.

    Drawing takes a fifth of a second, so it is drawn twice a minute at most, and in the end.

    Args:
        path: as of `CsvLogger`.
        rows: likewise.
        clock: tells seconds.
    """

    def __init__(
        self, path: Path, rows: Sequence[Mapping[str, float]] = (), clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.path = path
        self._rows: list[Row] = [dict(row) for row in rows]
        self._clock = clock
        self._next_s = clock() + _REDRAWN_AFTER_S
        self._is_old = bool(rows)  # who was killed may have drawn less

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Take the values over; draw the curve anew if the last time is long ago."""
        self._rows.append({"step": step, **values})
        self._is_old = True
        if self._clock() >= self._next_s:
            self._draw()

    def close(self) -> None:
        """Draw what is not drawn yet."""
        if self._is_old:
            self._draw()

    def _draw(self) -> None:
        best = max(self._rows, key=_score)  # the first of equal ones, as the loop keeps it
        draw_learning_curve(self._rows, int(best["step"]), self.path)
        self._is_old, self._next_s = False, self._clock() + _REDRAWN_AFTER_S


class TensorBoardLogger:
    """Event files that TensorBoard shows.

    Args:
        folder: for the event files.
        anew: hide all that an earlier run left there, and not only what lies behind the step where this one goes on.

    Raises:
        PipelineError: if TensorBoard is not installed.
    """

    def __init__(self, folder: Path, *, anew: bool = False) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ModuleNotFoundError as error:
            raise PipelineError(
                f"--logger tensorboard: {error.name} is not installed; run pip install 'moe-pipeline[tensorboard]'"
            ) from error
        self.folder = folder
        self.anew = anew
        self._open = SummaryWriter
        self._writer: Any = None

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Add a point to the curve of each value."""
        if self._writer is None:
            self._writer = self._open(str(self.folder), purge_step=0 if self.anew else step)
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def close(self) -> None:
        """Close the event file."""
        if self._writer is not None:
            self._writer.close()


def named_loggers(names: Sequence[LoggerName], folder: Path, *, anew: bool) -> list[RunLogger]:
    """The loggers that are asked for by name, each with a folder of its own in `folder`.

    Args:
        names: repeated ones count once.
        folder: of the run.
        anew: whether what an earlier run left is done with.

    Raises:
        PipelineError: if a package is missing; names the extra that brings it.
    """
    return [TensorBoardLogger(folder / name, anew=anew) for name in dict.fromkeys(names)]


def _score(row: Mapping[str, float]) -> float:
    return row["score"] if row["score"] == row["score"] else float("-inf")
