"""What a source is found to hold, before anything is read or written."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

Part = Literal["training", "test"]


@dataclass(frozen=True, slots=True)
class SourceCase:
    """The files of one case, as the source has them."""

    case_id: str
    """Id in the new dataset."""
    images: tuple[Path, ...]
    """One file per channel, or one 4D file with all of them."""
    label: Path | None
    """Test cases may go without."""
    part: Part = "training"
    """Which folders it goes to."""


@dataclass(frozen=True, slots=True)
class SourceDataset:
    """A source in the terms of the new dataset."""

    channel_names: tuple[str, ...]
    """In channel order."""
    labels: dict[str, int]
    """Name to value, background included."""
    cases: tuple[SourceCase, ...]
    """Everything that can be tried."""
    faults: dict[str, str] = field(default_factory=dict)
    """Case id to the reason why it cannot even be tried."""
    extra: dict[str, Any] = field(default_factory=dict)
    """Keys to keep in dataset.json: licence, reference, patients."""
