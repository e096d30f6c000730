"""The files of a model folder that belong to its gates: weights, card, chart, and the features they were trained on.

moe.json                            which foundation, which experts
gate.safetensors gate.json gate.png the gate that the first experts were trained with
added/<dataset>/                   the same three of each expert that was added later
written.jsonl                       what of all this is ours, by its hash
features/<dataset>.safetensors      gate features of every dataset, for experts that join later
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from moe_pipeline.charts import Chart, Curve, save_charts
from moe_pipeline.errors import CheckpointError, DatasetError
from moe_pipeline.files import sha256_file
from moe_pipeline.journal.written import Written, WrittenFile
from moe_pipeline.model.moe.claim import ClaimHead
from moe_pipeline.model.moe.gate import N_IMAGE_GROUPS, Gate, GateConfig, OODDetector
from moe_pipeline.model.moe.router import Router
from moe_pipeline.paths import GateFolder
from moe_pipeline.records.moe import MANIFEST, GateCard, ReliabilityBin, ShareManifest, ThresholdRow
from moe_pipeline.weights.tensors import load_metadata, load_tensors, save_tensors


@dataclass(frozen=True, slots=True)
class DatasetFeatures:
    """Gate features of one dataset's prompts.

    Attributes:
        name: dataset.
        output: which output it belongs to: 0 general, k expert k.
        train: (n, 5C).
        validation: (m, 5C), of patients that the experts did not train on.
        may_lose: share of a general dataset's validation prompts that tau may send to an expert.
        train_targets: (n,) output that should answer each prompt; the dataset's own if None.
        validation_targets: (m,), likewise.
        train_cases: case id of each training prompt; one case for all if None.
    """

    name: str
    output: int
    train: Tensor
    validation: Tensor
    may_lose: float = 0.0
    train_targets: Tensor | None = None
    validation_targets: Tensor | None = None
    train_cases: tuple[str, ...] | None = None

    @property
    def wanted_in_training(self) -> Tensor:
        """Output that should answer each training prompt, (n,) int64."""
        return self._own(self.train) if self.train_targets is None else self.train_targets

    @property
    def wanted_in_validation(self) -> Tensor:
        """Output that should answer each validation prompt, (m,) int64."""
        return self._own(self.validation) if self.validation_targets is None else self.validation_targets

    def _own(self, features: Tensor) -> Tensor:
        return torch.full((len(features),), self.output)


@dataclass(frozen=True, slots=True)
class TrainedGate:
    """A gate with one OOD detector per expert, in the order of its outputs, and one claim head each if it has any."""

    gate: Gate
    ood_detectors: list[OODDetector]
    claims: list[ClaimHead] = field(default_factory=list)

    @property
    def router(self) -> Router:
        """Gate and OOD detectors together."""
        return Router(self.gate, self.ood_detectors)

    def tensors(self) -> dict[str, Tensor]:
        """All tensors: gate.<name>, and ood_detector.<k>.<name> and claim.<k>.<name> from k = 1."""
        return {
            prefix + name: tensor
            for prefix, part in self._parts().items()
            for name, tensor in part.state_dict().items()
        }

    @classmethod
    def from_tensors(
        cls, tensors: dict[str, Tensor], config: GateConfig, ranks: Sequence[int], own_ranks: Sequence[int] = ()
    ) -> "TrainedGate":
        """Undo `tensors`.

        Args:
            tensors: of a file.
            config: sizes of the gate.
            ranks: principal directions of each OOD detector.
            own_ranks: of those in the experts' own views, one per claim head.

        Raises:
            CheckpointError: if a tensor is missing or has another shape.
        """
        ood_detectors = [OODDetector(N_IMAGE_GROUPS * config.width, rank) for rank in ranks]
        trained = cls(Gate(config), ood_detectors, [ClaimHead(config.width, rank) for rank in own_ranks])
        for prefix, module in trained._parts().items():
            own = {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}
            try:
                module.load_state_dict(own)
            except RuntimeError as error:
                raise CheckpointError(str(error)) from error
        trained.gate.requires_grad_(False).eval()
        return trained

    def _parts(self) -> dict[str, Gate | OODDetector | ClaimHead]:
        return {
            "gate.": self.gate,
            **{f"ood_detector.{k}.": ood_detector for k, ood_detector in enumerate(self.ood_detectors, start=1)},
            **{f"claim.{k}.": head for k, head in enumerate(self.claims, start=1)},
        }


WRITTEN = "written.jsonl"
GATE_WEIGHTS, GATE_CARD, GATE_CHART = GateFolder.WEIGHTS, GateFolder.CARD, GateFolder.CHART

_KEPT_PROMPTS = {"train": 1000, "validation": 500}


def own_files(model: Path) -> Written:
    """What is ours in a model folder, trained here or imported."""
    manifest = model / MANIFEST
    listed = ShareManifest.load(manifest).files.items() if manifest.is_file() else ()
    also = [WrittenFile(file=name, size_bytes=file.n_bytes, sha256=file.sha256) for name, file in listed]
    if also:
        also.append(WrittenFile(file=MANIFEST, size_bytes=manifest.stat().st_size, sha256=sha256_file(manifest)))
    return Written(model / WRITTEN, also)


def added_folder(model: Path, dataset: str) -> Path:
    """Where the gate of an added expert is."""
    return model / "added" / dataset


def features_path(model: Path, dataset: str) -> Path:
    """Where the gate features of a dataset are kept."""
    return model / "features" / f"{dataset}.safetensors"


def save_gate(folder: Path, trained: TrainedGate) -> str:
    """Write the tensors of gate and OOD detectors; their sha256."""
    return save_tensors(folder / GATE_WEIGHTS, trained.tensors())


def load_gate(folder: Path, sha256: str) -> tuple[TrainedGate, GateCard]:
    """Read a gate with its OOD detectors and its card.

    Raises:
        RecordError: if the card is missing or invalid.
        CheckpointError: if the tensors are missing, are others than expected, or do not fit the card.
    """
    card = GateCard.load(folder / GATE_CARD)
    tensors = load_tensors(folder / GATE_WEIGHTS, sha256)
    own_ranks = card.claims.ood_ranks if card.claims else ()
    config = GateConfig(width=card.width, n_experts=len(card.outputs) - 1, hidden=card.hidden)
    try:
        return TrainedGate.from_tensors(tensors, config, card.ood_ranks, own_ranks), card
    except CheckpointError as error:
        raise CheckpointError(
            f"{folder / GATE_WEIGHTS}: does not fit {GATE_CARD} ({error}); run `moe train-gate` again"
        ) from error


def save_features(model: Path, datasets: Sequence[DatasetFeatures]) -> None:
    """Keep some gate features of each dataset in 16 bits: pooled vectors that no image can be made of again."""
    for dataset in datasets:
        parts = {"train": dataset.train, "validation": dataset.validation}
        kept = {name: rows[: _KEPT_PROMPTS[name]].to(torch.float16) for name, rows in parts.items()}
        save_tensors(features_path(model, dataset.name), kept, {"may_lose": str(dataset.may_lose)})


def load_features(model: Path, names: Sequence[str], output: int) -> list[DatasetFeatures]:
    """The kept gate features of some datasets, all as prompts of one output.

    Raises:
        DatasetError: if the model keeps none of one of them.
    """
    datasets = []
    for name in names:
        path = features_path(model, name)
        if not path.is_file():
            raise DatasetError(
                f"{path}: {model} keeps no features of {name}, so an added expert could not learn to leave its prompts "
                "alone; run `moe train-gate` again with all datasets"
            )
        rows = {part: tensor.float() for part, tensor in load_tensors(path).items()}
        may_lose = float(load_metadata(path)["may_lose"])
        datasets.append(DatasetFeatures(name, output, rows["train"], rows["validation"], may_lose))
    return datasets


def draw_gate(sweep: Sequence[ThresholdRow], reliability: Sequence[ReliabilityBin], tau: float, path: Path) -> None:
    """Write a PNG of what each threshold does, and of confidence against accuracy."""
    taus = [row.tau for row in sweep]
    shares = {
        "general keeps": [row.general_kept for row in sweep],
        "own expert": [row.own_expert for row in sweep],
        "wrong expert": [row.wrong_expert for row in sweep],
    }
    curves = [Curve(name, taus, [_number(value) for value in values]) for name, values in shares.items()]
    confidences = [row.confidence for row in reliability]
    diagonal = Curve("perfect", [0.0, 1.0], [0.0, 1.0])
    found = Curve("accuracy", confidences, [row.accuracy for row in reliability])
    charts = [
        Chart("Share of validation prompts", "threshold tau", curves, y_range=(0.0, 1.0), marked_x=tau),
        Chart("Reliability", "confidence", [diagonal, found], y_range=(0.0, 1.0)),
    ]
    save_charts(charts, path)


def _number(value: float | None) -> float:
    return float("nan") if value is None else value
