"""From experts to a model folder: features of all datasets, gate, OOD detectors."""

import time
from dataclasses import asdict, replace
from pathlib import Path

from moe_pipeline.errors import DatasetError, StaleCacheError
from moe_pipeline.mixture.expert import find_expert
from moe_pipeline.mixture.folder import FinishedGate, check_replaceable, save_model
from moe_pipeline.mixture.gate_files import DatasetFeatures
from moe_pipeline.mixture.model import load_expert
from moe_pipeline.model.moe.selector import GENERAL
from moe_pipeline.progress import Progress, silent
from moe_pipeline.records.experts import ExpertCard
from moe_pipeline.records.foundation import View
from moe_pipeline.records.moe import GateCard
from moe_pipeline.training.claims.learn_claims import (
    described_by,
)
from moe_pipeline.training.claims.panel import Panel
from moe_pipeline.training.claims.prompted_images import DatasetPrompts
from moe_pipeline.training.engine.loop import LoopSettings
from moe_pipeline.training.gate.fit import fit_gate
from moe_pipeline.training.gate.gate_run import (
    GateOptions,
    GateRun,
    check_planned,
    claims_of,
    dataset_features,
    own_detector,
    prompts_of,
    synthetic_features,
)
from moe_pipeline.training.gate.report_card import gate_card
from moe_pipeline.training.gate.threshold import TAUS
from moe_pipeline.training.planned import PlannedDataset
from moe_pipeline.weights.store import find_foundation
from moe_pipeline.weights.training_state import remove_training_state
from moe_pipeline.workspace import Workspace

LOOP = LoopSettings(steps=600, learning_rate=1e-3, warmup_steps=50, validate_every=50, weight_decay=0.05)
"""How long and how fast a gate learns."""

_PAPERS_TAU = 0.5  # the paper does not state its own


def train_gate(
    place: Workspace,
    expert_folders: list[Path],
    general_folders: list[Path],
    options: GateOptions | None = None,
    progress: Progress = silent,
) -> GateCard:
    """Train the gate over the experts of some datasets and write the model folder.

    All prompts are seen in the foundation's own view, because there the decision is made at prediction.

    Args:
        place: the workspace.
        expert_folders: raw datasets whose experts join, in the order of the gate's outputs.
        general_folders: planned raw datasets whose prompts belong to the general expert; may be empty.
        options: see there.
        progress: told after each case, batch and step.

    Raises:
        DatasetError: if no expert is named, or a dataset is named twice.
        PipelineError: if options contradict each other, or the workspace's model holds experts of its own.
        RecordError: if a dataset has no plan or no expert.
        StaleCacheError: if experts were trained on different foundations.
    """
    options, began = (options or GateOptions()).effective(), time.monotonic()
    check_replaceable(place.model)
    cards = _expert_cards(place, expert_folders, general_folders, options)
    run = GateRun.open(place, cards[0].foundation, _common_view(place, cards), options, progress)
    features: list[DatasetFeatures] = []
    better: dict[str, float] = {}
    drawn: list[DatasetPrompts] = []
    of_experts: list[PlannedDataset] = []
    for position, folder in enumerate((*expert_folders, *general_folders)):
        card = cards[position] if position < len(cards) else None
        planned = run.open_dataset(folder, options.fold)
        check_planned(planned, cards[0], card, options.fold)
        output = position + 1 if card else GENERAL
        found, share = dataset_features(run, planned, card, output)
        features += found
        better |= share
        drawn.append(prompts_of(planned, output))
        of_experts += [planned] if card else []
    if options.synthetic:
        features.append(synthetic_features(run))
    training = place.root / "gate_training"
    remove_training_state(training / "checkpoint.safetensors")  # seconds of work: always anew
    trained = fit_gate(features, len(cards), options.settings, LOOP, training, progress)
    finished = FinishedGate(trained, _PAPERS_TAU, features, ("general", *(card.dataset for card in cards)))
    described = gate_card(finished, options.settings).model_copy(
        update={"rule": options.rule, "targets": options.targets, "margin": options.margin, "better_expert": better}
    )
    if options.rule != "paper":
        experts = tuple(load_expert(place.expert(card.dataset, card.fold), run.foundation) for card in cards)
        detectors = tuple(own_detector(run, one) for one in of_experts)
        panel = Panel(run.foundation, run.view, trained.router, experts, detectors, run.device)
        learnt = claims_of(run, panel, drawn)
        described = described_by(described, learnt, finished.outputs, TAUS)
        finished = replace(finished, trained=replace(trained, claims=learnt.heads), tau=described.tau)
    return save_model(place, cards, run.view, finished, described, asdict(options), time.monotonic() - began)


def _expert_cards(
    place: Workspace, expert_folders: list[Path], general_folders: list[Path], options: GateOptions
) -> list[ExpertCard]:
    names = [folder.resolve().name for folder in (*expert_folders, *general_folders)]
    if not expert_folders or len(set(names)) < len(names):
        raise DatasetError(f"a gate needs at least one expert and each dataset once; got {', '.join(names) or 'none'}")
    if options.rule == "paper" and not general_folders:
        raise DatasetError("the paper's rule learns the general expert from data alone; name some with --general")
    return [find_expert(place, name, options.fold) for name in names[: len(expert_folders)]]


def _common_view(place: Workspace, cards: list[ExpertCard]) -> View:
    for card in cards[1:]:
        if card.foundation_sha256 != cards[0].foundation_sha256:
            raise StaleCacheError(
                f"expert {card.dataset} was trained on the foundation {card.foundation} "
                f"({card.foundation_sha256[:12]}), {cards[0].dataset} on {cards[0].foundation} "
                f"({cards[0].foundation_sha256[:12]}); experts of one model share one foundation: "
                f"run `moe finetune {card.dataset} --overwrite`"
            )
    return find_foundation(cards[0].foundation, place.weights).card.view
