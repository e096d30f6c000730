"""The files of a model folder that belong to its gates: weights, card, chart, and the features they were trained on.

moe.json                            which foundation, which experts
gate.safetensors gate.json gate.png the gate that the first experts were trained with
joined/<dataset>/                   the same three of each expert that joined later
features/<dataset>.safetensors      gate features of every dataset, for experts that join later
"""

from collections.abc import Sequence
from pathlib import Path

import torch

from moe_pipeline.charts import Chart, Curve, save_charts
from moe_pipeline.errors import CheckpointError, DatasetError
from moe_pipeline.model.gate import GateConfig
from moe_pipeline.records.moe import GateCard, ReliabilityBin, ThresholdRow
from moe_pipeline.training.gate import DatasetFeatures, TrainedGate
from moe_pipeline.weights.tensors import load_metadata, load_tensors, save_tensors

GATE_WEIGHTS, GATE_CARD, GATE_CHART = "gate.safetensors", "gate.json", "gate.png"

_KEPT_PROMPTS = {"train": 1000, "validation": 500}


def joined_folder(model: Path, dataset: str) -> Path:
    """Where the gate of an expert is that joined later."""
    return model / "joined" / dataset


def features_path(model: Path, dataset: str) -> Path:
    """Where the gate features of a dataset are kept."""
    return model / "features" / f"{dataset}.safetensors"


def save_gate(folder: Path, trained: TrainedGate) -> str:
    """Write the tensors of gate and guards; their sha256."""
    return save_tensors(folder / GATE_WEIGHTS, trained.tensors())


def load_gate(folder: Path, sha256: str) -> tuple[TrainedGate, GateCard]:
    """Read a gate with its guards and its card.

    Raises:
        RecordError: if the card is missing or invalid.
        CheckpointError: if the tensors are missing, are others than expected, or do not fit the card.
    """
    card = GateCard.load(folder / GATE_CARD)
    tensors = load_tensors(folder / GATE_WEIGHTS, sha256)
    config = GateConfig(width=card.width, n_experts=len(card.outputs) - 1, hidden=card.hidden)
    try:
        return TrainedGate.from_tensors(tensors, config, card.guard_ranks), card
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
                f"{path}: {model} keeps no features of {name}, so a newcomer could not learn to leave its prompts "
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
