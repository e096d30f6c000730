"""Work for units that workers of other processes can import."""

import os
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from moe_pipeline.cluster.engines import Engine
from moe_pipeline.cluster.records import Resources, UnitRecord
from moe_pipeline.cluster.run import run_units
from moe_pipeline.cluster.units import Board, Unit, noting
from moe_pipeline.cluster.worker import Job
from moe_pipeline.errors import PipelineError
from moe_pipeline.files import append_line
from moe_pipeline.journal.written import Written


@dataclass(frozen=True, slots=True)
class Doubling:
    """Twice a number, written into a file; bad ones are odd. Each attempt leaves a line in `attempts/`."""

    out: Path
    seconds: float = 0.0
    deadly: int | None = None
    """Kills its worker, the first time."""

    def __call__(self, number: int, notes: Path) -> int:
        """The work."""
        attempts = self.out / "attempts" / str(number)
        first = not attempts.exists()
        append_line(attempts, str(os.getpid()))
        time.sleep(self.seconds)
        if number % 2:
            raise PipelineError(f"{number} is odd")
        own = noting(Written(self.out / "finished.jsonl"), notes)
        own.write_text(f"{number}.txt", f"{2 * number}")
        if first and number == self.deadly:
            os.kill(os.getpid(), signal.SIGKILL)
        return 2 * number


def doubled(engine: Engine, out: Path, numbers: Sequence[int], **of_work: Any) -> dict[int, UnitRecord]:
    """What has become of each number."""
    found: dict[int, UnitRecord] = {}
    job = Job(Doubling(out, **of_work), int, Board(out / "units"), Resources())
    units = [Unit(str(number), number, "of no importance") for number in numbers]
    for unit, record in run_units(engine, job, units):
        assert unit.item not in found
        found[unit.item] = record
    return found


def attempts(out: Path) -> dict[int, int]:
    """How often each number was begun with."""
    return {int(path.name): len(path.read_text().split()) for path in sorted((out / "attempts").iterdir())}
