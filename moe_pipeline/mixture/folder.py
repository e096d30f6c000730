"""Writing a model folder: moe.json, the gate, and experts by reference."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from moe_pipeline.errors import PipelineError
from moe_pipeline.files import atomic_folder
from moe_pipeline.journal.written import files_below
from moe_pipeline.mixture.gate_files import (
    GATE_CARD,
    GATE_CHART,
    GATE_WEIGHTS,
    DatasetFeatures,
    TrainedGate,
    draw_gate,
    own_files,
    save_features,
    save_gate,
)
from moe_pipeline.paths import ModelFolder
from moe_pipeline.records.experts import ExpertCard
from moe_pipeline.records.foundation import View
from moe_pipeline.records.moe import ExpertEntry, GateCard, ModelCard
from moe_pipeline.records.run import RunRecord, library_versions
from moe_pipeline.workspace import Workspace

EXPERTS, MODEL_CARD = ModelFolder.EXPERTS, ModelFolder.CARD
"""Names in a model folder; it has its own experts/ only if it was imported."""


@dataclass(frozen=True, slots=True)
class FinishedGate:
    """A trained gate with its threshold and what it was trained on."""

    trained: TrainedGate
    tau: float
    datasets: list[DatasetFeatures]
    outputs: tuple[str, ...]
    """Names, general (or others) first."""


def write_gate(folder: Path, trained: TrainedGate, card: GateCard) -> GateCard:
    """Write weights, card and chart of a gate into a folder; the card as written."""
    written = card.model_copy(update={"weights_sha256": save_gate(folder, trained)})
    draw_gate(card.sweep, card.reliability, card.tau, folder / GATE_CHART)
    written.save(folder / GATE_CARD)
    return written


def check_replaceable(model: Path) -> None:
    """Look whether a model folder may be written anew.

    Raises:
        PipelineError: if the model that stands there was imported: its experts are nowhere else; or if the folder
            holds files that are not ours.
    """
    if (model / EXPERTS).exists():
        raise PipelineError(
            f"{model} holds an imported model with experts of its own, which would be lost; "
            "move it elsewhere, or add to it with `moe experts add`"
        )
    if os.path.lexists(model):
        own_files(model).check_all()


def save_model(
    place: Workspace,
    cards: list[ExpertCard],
    view: View,
    finished: FinishedGate,
    described: GateCard,
    settings: dict[str, Any],
    seconds: float,
) -> GateCard:
    """Write the workspace's model folder as a whole; an older one is replaced.

    Args:
        place: the workspace.
        cards: of the experts, in the order of the gate's outputs.
        view: of the gate.
        finished: the gate.
        described: its card.
        settings: for run.json.
        seconds: that all of it took.
    """
    with atomic_folder(place.model, check_replaceable) as folder:
        card = write_gate(folder, finished.trained, described)
        save_features(folder, finished.datasets)
        ModelCard(
            foundation=cards[0].foundation,
            foundation_sha256=cards[0].foundation_sha256,
            view=view,
            experts=tuple(expert_entry(place, place.model, expert) for expert in cards),
            channel=cards[0].channel,
            gate_sha256=card.weights_sha256,
            tau=card.tau,
        ).save(folder / MODEL_CARD)
        RunRecord(
            command="train-gate",
            versions=library_versions(),
            device=str(settings["device"]),
            settings=settings,
            inputs={expert.dataset: expert.weights_sha256 for expert in cards},
            seconds=round(seconds, 1),
            results={"calibration_error": card.calibration_error, "tau": card.tau},
            files=[MODEL_CARD, GATE_CARD, GATE_WEIGHTS, GATE_CHART],
        ).save(ModelFolder(folder).run)
        own_files(folder).adopt(files_below(folder))
    return card


def expert_entry(place: Workspace, model: Path, card: ExpertCard, added_gate_sha256: str | None = None) -> ExpertEntry:
    """An expert of the workspace as a model folder refers to it."""
    folder = os.path.relpath(place.expert(card.dataset, card.fold).resolve(), model.resolve())
    return ExpertEntry(
        dataset=card.dataset,
        folder=Path(folder).as_posix(),
        weights_sha256=card.weights_sha256,
        click_proposer_sha256=card.click_proposer.weights_sha256 if card.click_proposer else None,
        added_gate_sha256=added_gate_sha256,
    )
