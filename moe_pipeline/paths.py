"""Names of the files in the folders that we write and read, each of them once."""

import re
from dataclasses import dataclass
from pathlib import Path

RUN_JSON = "run.json"
"""What a command did; beside whatever it wrote."""

LOG_CSV = "log.csv"
"""How a training went, a row per validation; beside its checkpoint."""

_URL = re.compile(r"([a-z][a-z0-9+.-]+):/+(.+)")

_N_CLICKS = re.compile(r"matrix_(\d+)_clicks?\.csv")


def remote_url(path: Path) -> str | None:
    """The address that a path was written as, `s3://bucket/scans`; None for a path."""
    found = _URL.fullmatch(path.as_posix())
    return f"{found[1]}://{found[2]}" if found else None


@dataclass(frozen=True, slots=True)
class _Place:
    """A folder whose files have names that others know."""

    root: Path


class _Named:
    """The path of a file, or of a folder, in the folder that it is asked of."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, folder: _Place, _kind: type[_Place]) -> Path:
        return folder.root / self._name


class RawFolder(_Place):
    """A raw dataset, as nnU-Net lays it out."""

    DESCRIPTION = "dataset.json"
    CONVERTED = "cases.jsonl"
    WRITTEN = "written.jsonl"
    IMAGES = "imagesTr"
    LABELS = "labelsTr"
    PROMPTS = "prompts"
    JOURNAL = "journal"
    CLASSES = "classes.json"

    description = _Named(DESCRIPTION)
    """Channels, classes and the like."""


class CheckFolder(_Place):
    """What a check found in a raw dataset or source."""

    REPORT = "check.json"
    TEXT = "check.txt"
    JOURNAL = "cases.jsonl"


class PlanFolder(_Place):
    """Fingerprint, plan and folds of a dataset."""

    PLAN = "plan.json"

    fingerprint = _Named("fingerprint.json")
    """Statistics of the dataset."""
    plan = _Named(PLAN)
    """The plan made from preset and fingerprint; users may edit it."""
    splits = _Named("splits.json")
    """The folds."""
    journal = _Named("cases.jsonl")
    """Fingerprints of single cases, so that they are not read again."""


class ExpertFolder(_Place):
    """A finetuned expert."""

    CARD = "expert.json"
    WEIGHTS = "expert.safetensors"

    card = _Named(CARD)
    """What the expert is."""
    weights = _Named(WEIGHTS)
    """Tensors of its decoder."""
    click_proposer = _Named("click_proposer.safetensors")
    """Tensors of its click proposer."""
    click_proposer_training = _Named("click_proposer")
    """Folder of the training of its click proposer."""
    run = _Named(RUN_JSON)
    """How it was made."""


class GateFolder(_Place):
    """A gate; that of a model lies in the model's own folder."""

    CARD = "gate.json"
    WEIGHTS = "gate.safetensors"
    CHART = "gate.png"

    card = _Named(CARD)
    """What the gate is."""
    weights = _Named(WEIGHTS)
    """Tensors of gate and OOD detectors."""
    chart = _Named(CHART)
    """Thresholds and reliability."""


class ModelFolder(_Place):
    """A model: gate, and experts by reference or, if it was imported, of its own."""

    CARD = "moe.json"
    EXPERTS = "experts"

    card = _Named(CARD)
    """What the model is."""
    run = _Named(RUN_JSON)
    """How it was made."""

    @property
    def gate(self) -> GateFolder:
        """The gate."""
        return GateFolder(self.root)


class PredictionFolder(_Place):
    """Label maps and tables of a prediction; finished cases are listed as they come."""

    CASES = "cases.csv"
    METRICS = "dice.csv"
    FINISHED = "finished.jsonl"
    CLICKS = "clicks"
    EVALUATION = "evaluation.json"


class MatrixFolder(_Place):
    """What a comparison of models wrote: three tables for each number of clicks."""

    MATRICES = "matrix_*_click*.csv"

    @property
    def matrices(self) -> dict[int, Path]:
        """The forgetting matrices by clicks, the fewest first."""
        named = {path: _N_CLICKS.fullmatch(path.name) for path in self.root.glob(self.MATRICES)}
        return dict(sorted((int(match[1]), path) for path, match in named.items() if match))
