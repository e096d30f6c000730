"""The model folder: foundation, experts and gate as one thing."""

import os
from pathlib import Path
from typing import Literal, Self

from pydantic import Field

from moe_pipeline.errors import RecordError
from moe_pipeline.paths import ExpertFolder, ModelFolder
from moe_pipeline.records.base import Part, Record
from moe_pipeline.records.foundation import View

MANIFEST = "manifest.json"


class SharedFile(Part):
    """One file of an exported model."""

    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    """Of its bytes."""
    n_bytes: int = Field(ge=0)
    """Its size."""


class ShareManifest(Record):
    """manifest.json: every other file of an exported model."""

    files: dict[str, SharedFile]
    """By path inside the model, with forward slashes."""
    foundation: str
    """Name of the foundation the model stands on."""
    foundation_sha256: str
    """Its weights, which are among the files only if `foundation_included`."""
    foundation_included: bool
    """Whether the model can be used without bringing the foundation."""
    package_version: str
    """Version of moe that wrote it."""


Rule = Literal["moe", "paper"]
Targets = Literal["dataset", "dice"]


class ExpertEntry(Part):
    """One expert of a mixture, in the order of the outputs after "general"."""

    dataset: str
    """Name of the expert."""
    folder: str
    """Where expert.json and expert.safetensors are, relative to the model folder."""
    weights_sha256: str
    """The weights the gate was trained with."""
    click_proposer_sha256: str | None = None
    """click_proposer.safetensors in the same folder; null if the expert has none."""
    added_gate_sha256: str | None = None
    """Of an expert that joined later: added/<dataset>/gate.safetensors; its gate.json stands beside. Null for the
    experts that the gate was trained with."""


class ThresholdRow(Part):
    """One threshold of the sweep, on validation prompts."""

    tau: float
    """Threshold."""
    general_kept: float | None
    """Share of general prompts that stay with the general expert; null without general data."""
    own_expert: float | None
    """Share of the prompts meant for an expert that this expert answers; null if there are none."""
    wrong_expert: float | None
    """Share of these prompts that another expert answers; the general expert answers the rest."""
    coverage: float | None = None
    """Share of all prompts that any expert answers."""


class ReliabilityBin(Part):
    """Prompts of which the gate is about equally sure."""

    low: float
    """Confidence above this."""
    high: float
    """Confidence up to this."""
    n: int
    """Prompts."""
    confidence: float
    """Mean weight of the favoured output."""
    accuracy: float
    """How often that output is the right one."""


class Guarantee(Part):
    """How much Dice the mixture loses at most on prompts that no expert is meant for, and what that rests on."""

    risk: float = Field(gt=0, lt=1)
    """Mean Dice that may be lost, as it was asked for."""
    confidence: float = Field(gt=0, lt=1)
    """That it is held."""
    bound: float = Field(ge=0, le=1)
    """What the mean loss does not exceed with that confidence."""
    held: bool
    """Whether the bound is within the risk; if not, there were too few prompts to show it."""
    mean_loss: float = Field(ge=-1, le=1)
    """Measured on the same prompts; negative if more is won than lost."""
    lost: float | None = Field(default=None, ge=0, le=1)
    """The same without what is won; None in models made before this was kept."""
    first_loss: float | None = Field(default=None, ge=-1, le=1)
    """As `mean_loss`, with one click alone; None in models made when one click was all that counted."""
    corrected_loss: float | None = Field(default=None, ge=-1, le=1)
    """As `mean_loss`, with five clicks alone."""
    prompts: int
    """Independent prompts, each on a scan of its own."""
    synthetic: int
    """How many of them are on synthetic scans; the others are on validation cases of the general datasets."""
    named: float
    """Share of them for which the gate names an expert whose OOD detectors know the image."""
    answered: float
    """Share of them that this expert then answers."""
    rests_on: str = (
        "Loss: by how much the expert's answer has less Dice than the general expert's, negative where it has more, 0 "
        "where it does not answer; the mean of the first answer, and of that after four further clicks of a simulated "
        "user. Thresholds: the last of a fixed sequence from silence on that holds the risk (learn then test, "
        "Angelopoulos et al. 2021), with a bound by betting (Waudby-Smith and Ramdas 2024). Holds for prompts like "
        "these: independent, on synthetic scans of random shape, texture and spacing, and on scans like those of the "
        "general datasets. Real scans of another kind are no sample of them; measure there with `moe evaluate --matrix "
        "--unseen`."
    )
    """What is counted, how, and what is assumed."""


class ExpertClaim(Part):
    """When one expert answers, and what that is worth on its own validation prompts."""

    threshold: float
    """It answers where its claim is above this; 1 where it may never."""
    prompts: int
    """Validation prompts of its dataset."""
    answered: float
    """Share of them that it answers."""
    wins: float
    """Dice that the mixture wins over the general expert by these answers, mean over all with one click and five."""
    could_win: float
    """The same if it answered all."""
    background: float | None
    """Share of the background clicks in the same images that it answers; null if there are none."""


class Claims(Part):
    """Who may answer, decided by what both decoders and the expert's click proposer make of a prompt."""

    evidence: tuple[str, ...]
    """What a claim rests on, in the order of the weights."""
    ood_ranks: tuple[int, ...]
    """Principal directions of each expert's OOD detector in its own view."""
    guarantee: Guarantee
    """Of the mixture of these experts."""
    experts: dict[str, ExpertClaim]
    """By dataset."""


class GateCard(Record):
    """gate.json beside gate.safetensors: how the gate was trained and how well it routes.

    The gate of an expert that joined later has the same card, with the outputs "others" and the expert.
    """

    outputs: tuple[str, ...]
    """Names of the weights, "general" (or "others") first."""
    rule: Rule = "moe"
    """How the gate was trained; see docs/method.md."""
    targets: Targets = "dataset"
    """Which output should answer a training prompt: its dataset's, or that of whoever segments the object better."""
    margin: float = 0.0
    """Dice by which an expert must be better than the general one, for the targets "dice"."""
    better_expert: dict[str, float] = Field(default_factory=dict)
    """Share of each finetuned dataset's objects that its expert segments better, for the targets "dice"."""
    out_of_distribution: bool = True
    """Whether OOD detectors keep experts away from images unlike an expert's own."""
    width: int
    """Channels of the foundation's embedding."""
    hidden: int
    """Width of the hidden layer."""
    ood_ranks: tuple[int, ...]
    """Principal directions of each expert's OOD detector."""
    general_datasets: tuple[str, ...]
    """Datasets whose prompts belong to the general expert."""
    weights_sha256: str
    """gate.safetensors."""
    samples: dict[str, int]
    """Training prompts per dataset."""
    temperature: float = Field(gt=0)
    """Of the softmax, from validation."""
    ood_percentile: float
    """Percentile of the distances of unseen patients behind an OOD detector's limit."""
    confusion: dict[str, dict[str, float]]
    """Share of each dataset's validation prompts that each output answers, at the thresholds and behind the OOD
    detectors."""
    calibration_error: float
    """Expected calibration error: mean gap in `reliability`, weighted by n."""
    reliability: tuple[ReliabilityBin, ...] = ()
    """On validation prompts, the same that the temperature is from, and before the OOD detectors."""
    known: dict[str, float] = Field(default_factory=dict)
    """Share of each dataset's validation prompts whose image its OOD detector knows (any, for general datasets)."""
    coverage: dict[str, float] = Field(default_factory=dict)
    """Share of each dataset's validation prompts that an expert answers, at tau and behind the OOD detectors."""
    tau: float = Field(ge=0, lt=1)
    """Threshold: 0.5 by the paper's rule; with claims the lowest of the experts'. Of an added expert, the weight of its
    own gate above which it claims a prompt."""
    sweep: tuple[ThresholdRow, ...]
    """What other thresholds do."""
    seed: int
    """Of prompts and weights."""
    claims: Claims | None = None
    """When the experts answer; null by the paper's rule, where the weight alone decides."""


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

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read and validate; where there is no model, the error says how to come by one.

        Raises:
            RecordError: if the file is missing or breaks the schema.
        """
        if not os.path.lexists(path):
            raise RecordError(_no_model(path.parent))
        return super().load(path)


def _no_model(folder: Path) -> str:
    if folder.is_file():
        return f"{folder}: a file, not a model folder; unpack an exported model with `moe import {folder}`"
    if (folder / _EXPERT).is_file():
        return f"{folder}: an expert, not a model; `moe train-gate` makes a model of experts, give that one (--model)"
    for inner in (folder / "model", *sorted(folder.glob("*"))[:_MOST_LOOKED_AT]):
        if (inner / _MODEL).is_file():
            return f"{folder}: holds no {_MODEL}, but {inner} does; give that one (--model)"
    there = f"no model {'in it' if folder.is_dir() else 'there'}, since there is no {_MODEL}"
    if not folder.parent.is_dir():
        there += f", and no folder {folder.parent} either (is --workspace right?)"
    return (
        f"{folder}: {there}. Make one with `moe finetune DATASET` and then `moe train-gate DATASET`, give another one "
        "with --model, or predict with a foundation alone, such as --foundation nano"
    )


_EXPERT, _MODEL = ExpertFolder.CARD, ModelFolder.CARD
_MOST_LOOKED_AT = 50
