"""What may be chosen for a report."""

from dataclasses import dataclass
from pathlib import Path

from moe_pipeline.errors import PipelineError

MEGABYTE = 1_000_000
MOST_CASES = 60
"""Cases that can be looked at in a page, unless another number is asked for; the table has all of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportOptions:
    """Every option has the name that it has on the command line."""

    max_mb: float = 25.0
    """Size of the file at most."""
    cases: int | None = None
    """Cases that can be looked at, the worst first; all up to 60 if not given."""
    anonymous: bool = False
    """Number the cases, and leave out every path."""
    images: Path | None = None
    """Folder of the images, where it is no longer the one that run.json names."""
    references: Path | None = None
    """Folder of the references, likewise."""

    def __post_init__(self) -> None:
        if not self.max_mb > 0:
            raise PipelineError(f"max_mb: expected a number above 0, found {self.max_mb:g}")
        if self.cases is not None and self.cases < 0:
            raise PipelineError(f"cases: expected 0 or more, found {self.cases}")

    @property
    def max_bytes(self) -> int:
        """Size of the file at most."""
        return int(self.max_mb * MEGABYTE)
