"""The model folder: foundation, experts and gate as one thing."""

from typing import Literal

from pydantic import Field

from moe_pipeline.records.base import Part, Record
from moe_pipeline.records.view import View


class ExpertEntry(Part):
    """One expert of a mixture, in the order of the gate's outputs."""

    dataset: str
    """Name of the expert."""
    folder: str
    """Where expert.json and expert.safetensors are, relative to the model folder."""
    weights_sha256: str
    """The weights the gate was trained with."""


class ThresholdRow(Part):
    """One threshold of the sweep, on validation prompts."""

    tau: float
    """Threshold."""
    general_kept: float | None
    """Share of general prompts that stay with the general expert; null without general data."""
    own_expert: float
    """Share of the experts' prompts that their own expert answers."""
    wrong_expert: float
    """Share of the experts' prompts that another expert answers."""


class GateCard(Record):
    """gate.json beside gate.safetensors: how the gate was trained and how well it routes."""

    outputs: tuple[str, ...]
    """Names of the weights, "general" first."""
    width: int
    """Channels of the foundation's embedding."""
    hidden: int
    """Width of the hidden layer."""
    guard_ranks: tuple[int, ...]
    """Principal directions of each expert's guard."""
    general_datasets: tuple[str, ...]
    """Datasets whose prompts belong to the general expert."""
    weights_sha256: str
    """gate.safetensors."""
    samples: dict[str, int]
    """Training prompts per dataset."""
    temperature: float = Field(gt=0)
    """Of the softmax, from validation."""
    guard_percentile: float
    """Percentile of the training distances that is a guard's limit."""
    confusion: dict[str, dict[str, float]]
    """Share of each dataset's validation prompts that each output answers, at tau and behind the guard."""
    calibration_error: float
    """Expected calibration error over 10 bins on validation."""
    tau: float = Field(ge=0, lt=1)
    """Chosen threshold: the smallest that sends no validation prompt of the general datasets to an expert, and at most
    2 % of the synthetic ones; 0.5 without either."""
    sweep: tuple[ThresholdRow, ...]
    """What other thresholds do."""
    seed: int
    """Of prompts and weights."""


class ModelCard(Record):
    """moe.json: what a model folder consists of."""

    foundation: str
    """Name or path to load the foundation by."""
    foundation_sha256: str
    """Its weights."""
    view: View
    """The view of the general expert and of the gate."""
    experts: tuple[ExpertEntry, ...]
    """In the order of the gate's outputs after "general"."""
    channel: int = Field(default=0, ge=0)
    """Image channel that experts and gate were trained on."""
    gate_sha256: str
    """gate.safetensors."""
    tau: float = Field(ge=0, lt=1)
    """Threshold of the selector."""
    selector: Literal["weighted", "specific", "general"] = "weighted"
    """How the selector mixes."""
