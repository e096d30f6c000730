"""Names of the files in the folders that we write and read, each of them once."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

RUN_JSON = "run.json"
"""What a command did; beside whatever it wrote."""
_URL = re.compile(r"([a-z][a-z0-9+.-]+):/+(.+)")


def remote_url(path: Path) -> str | None:
    """The address that a path was written as, `s3://bucket/scans`; None for a path."""
    found = _URL.fullmatch(path.as_posix())
    return f"{found[1]}://{found[2]}" if found else None


LOG_CSV = "log.csv"
"""How a training went, a row per validation; beside its checkpoint."""


@dataclass(frozen=True, slots=True)
class RawFolder:
    """A raw dataset, as nnU-Net lays it out."""

    root: Path

    DESCRIPTION: ClassVar = "dataset.json"
    CONVERTED: ClassVar = "cases.jsonl"
    WRITTEN: ClassVar = "written.jsonl"
    IMAGES: ClassVar = "imagesTr"
    LABELS: ClassVar = "labelsTr"
    PROMPTS: ClassVar = "prompts"
    JOURNAL: ClassVar = "journal"
    CLASSES: ClassVar = "classes.json"

    @property
    def description(self) -> Path:
        """Channels, classes and the like."""
        return self.root / self.DESCRIPTION


@dataclass(frozen=True, slots=True)
class CheckFolder:
    """What a check found in a raw dataset or source."""

    root: Path

    REPORT: ClassVar = "check.json"
    TEXT: ClassVar = "check.txt"
    JOURNAL: ClassVar = "cases.jsonl"


@dataclass(frozen=True, slots=True)
class PlanFolder:
    """Fingerprint, plan and folds of a dataset."""

    root: Path

    @property
    def fingerprint(self) -> Path:
        """Statistics of the dataset."""
        return self.root / "fingerprint.json"

    @property
    def plan(self) -> Path:
        """The plan made from preset and fingerprint; users may edit it."""
        return self.root / "plan.json"

    @property
    def splits(self) -> Path:
        """The folds."""
        return self.root / "splits.json"

    @property
    def journal(self) -> Path:
        """Fingerprints of single cases, so that they are not read again."""
        return self.root / "cases.jsonl"


@dataclass(frozen=True, slots=True)
class ExpertFolder:
    """A finetuned expert."""

    root: Path

    CARD: ClassVar = "expert.json"
    WEIGHTS: ClassVar = "expert.safetensors"

    @property
    def card(self) -> Path:
        """What the expert is."""
        return self.root / self.CARD

    @property
    def weights(self) -> Path:
        """Tensors of its decoder."""
        return self.root / self.WEIGHTS

    @property
    def click_proposer(self) -> Path:
        """Tensors of its click proposer."""
        return self.root / "click_proposer.safetensors"

    @property
    def click_proposer_training(self) -> Path:
        """Folder of the training of its click proposer."""
        return self.root / "click_proposer"

    @property
    def run(self) -> Path:
        """How it was made."""
        return self.root / RUN_JSON


@dataclass(frozen=True, slots=True)
class GateFolder:
    """A gate; that of a model lies in the model's own folder."""

    root: Path

    CARD: ClassVar = "gate.json"
    WEIGHTS: ClassVar = "gate.safetensors"
    CHART: ClassVar = "gate.png"

    @property
    def card(self) -> Path:
        """What the gate is."""
        return self.root / self.CARD

    @property
    def weights(self) -> Path:
        """Tensors of gate and OOD detectors."""
        return self.root / self.WEIGHTS

    @property
    def chart(self) -> Path:
        """Thresholds and reliability."""
        return self.root / self.CHART


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """A model: gate, and experts by reference or, if it was imported, of its own."""

    root: Path

    CARD: ClassVar = "moe.json"
    EXPERTS: ClassVar = "experts"

    @property
    def card(self) -> Path:
        """What the model is."""
        return self.root / self.CARD

    @property
    def gate(self) -> GateFolder:
        """The gate."""
        return GateFolder(self.root)

    @property
    def run(self) -> Path:
        """How it was made."""
        return self.root / RUN_JSON


@dataclass(frozen=True, slots=True)
class PredictionFolder:
    """Label maps and tables of a prediction; finished cases are listed as they come."""

    root: Path

    CASES: ClassVar = "cases.csv"
    METRICS: ClassVar = "dice.csv"
    FINISHED: ClassVar = "finished.jsonl"
    CLICKS: ClassVar = "clicks"
    EVALUATION: ClassVar = "evaluation.json"


@dataclass(frozen=True, slots=True)
class MatrixFolder:
    """What a comparison of models wrote: three tables for each number of clicks."""

    root: Path

    MATRICES: ClassVar = "matrix_*_click*.csv"

    @property
    def matrices(self) -> dict[int, Path]:
        """The forgetting matrices by clicks, the fewest first."""
        named = {path: _N_CLICKS.fullmatch(path.name) for path in self.root.glob(self.MATRICES)}
        return dict(sorted((int(match[1]), path) for path, match in named.items() if match))


_N_CLICKS = re.compile(r"matrix_(\d+)_clicks?\.csv")
