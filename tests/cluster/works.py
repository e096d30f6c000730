"""Work for units that workers of other processes can import."""

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from moe_pipeline.cluster.units import noting
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
        own = noting(Written(self.out / "finished.jsonl"), notes, [f"{number}.txt"])
        own.write_text(f"{number}.txt", f"{2 * number}")
        if first and number == self.deadly:
            os.kill(os.getpid(), signal.SIGKILL)
        return 2 * number


def attempts(out: Path) -> dict[int, int]:
    """How often each number was begun with."""
    return {int(path.name): len(path.read_text().split()) for path in sorted((out / "attempts").iterdir())}
