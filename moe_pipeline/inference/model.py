"""The whole mixture in memory: foundation, experts, gate, guards."""

import copy
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from moe_pipeline.errors import CheckpointError, StaleCacheError
from moe_pipeline.model.foundation import Foundation
from moe_pipeline.model.gate import N_IMAGE_GROUPS, Gate, GateConfig, Guard
from moe_pipeline.model.mask_decoder import MaskDecoder
from moe_pipeline.model.mixture import GENERAL, Route, SelectorMode, choose_route
from moe_pipeline.records.experts import ExpertCard
from moe_pipeline.records.moe import ExpertEntry, GateCard, ModelCard
from moe_pipeline.records.view import View
from moe_pipeline.training.gate import knows_all, prompt_features
from moe_pipeline.weights.load import load_foundation
from moe_pipeline.weights.store import find_foundation
from moe_pipeline.weights.tensors import load_tensors


@dataclass(frozen=True, slots=True)
class Expert:
    """A finetuned decoder and what it expects to see."""

    name: str
    """Dataset it was finetuned on."""
    view: View
    """Its own view."""
    decoder: MaskDecoder
    """Frozen."""


@dataclass(frozen=True, slots=True)
class Mixture:
    """Everything prediction needs. Without experts it is the foundation alone."""

    foundation: Foundation
    """Frozen; its decoder is the general expert."""
    view: View
    """The view of the general expert and of the gate."""
    experts: tuple[Expert, ...]
    """In the order of the gate's outputs after the general one."""
    gate: Gate | None
    """None if there are no experts."""
    guards: tuple[Guard, ...]
    """One per expert."""
    tau: float
    """Threshold of the selector."""
    selector: SelectorMode
    """How the selector mixes."""
    device: torch.device
    """Where all of it lives."""
    hashes: dict[str, str]
    """sha256 of the weights by name, for run.json."""
    channel: int = 0
    """Image channel that is shown."""

    @torch.no_grad()
    def route(self, embedding: Tensor, coordinates: Tensor, labels: Tensor) -> Route:
        """Who answers one prompt, from the general view's embedding.

        Args:
            embedding: (1, C, g, g, g).
            coordinates: (1, n, 3) voxels of the crop.
            labels: (1, n).
        """
        if self.gate is None or self.selector == "general":
            return Route(GENERAL, 0.0, GENERAL, 0.0, guarded=False)
        features = prompt_features(self.foundation, embedding, coordinates, labels)  # (1, 5C)
        known = knows_all(self.guards, features)[0]  # (N,)
        return choose_route(self.gate.weights(features)[0], known, self.tau, self.selector)

    def name_of(self, output: int) -> str:
        """Name of an output: "general" or the expert's dataset."""
        return "general" if output == GENERAL else self.experts[output - 1].name


def load_model(
    folder: Path,
    *,
    device: str | torch.device = "cpu",
    selector: SelectorMode | None = None,
    tau: float | None = None,
    weights_root: Path | None = None,
) -> Mixture:
    """Load a model folder.

    Args:
        folder: with moe.json, gate.json, gate.safetensors.
        device: where to put it.
        selector: instead of the folder's own.
        tau: instead of the folder's own.
        weights_root: a workspace's weights folder, for imported foundations.

    Raises:
        RecordError: if a record is missing or invalid.
        CheckpointError: if weights are missing or damaged.
        StaleCacheError: if an expert or the foundation is not the one the gate was trained with.
    """
    card, gate_card = ModelCard.load(folder / "moe.json"), GateCard.load(folder / "gate.json")
    mixture = load_foundation_alone(card.foundation, device=device, weights_root=weights_root)
    _expect_same(f"foundation {card.foundation}", mixture.hashes[card.foundation], card.foundation_sha256, folder)
    experts = tuple(load_expert(folder / entry.folder, mixture.foundation, entry) for entry in card.experts)
    gate, guards = _load_gate(folder / "gate.safetensors", card.gate_sha256, gate_card)
    place = torch.device(device)
    return Mixture(
        foundation=mixture.foundation,
        view=card.view,
        experts=experts,
        gate=gate.to(place),
        guards=tuple(guard.to(place) for guard in guards),
        tau=card.tau if tau is None else tau,
        selector=selector or card.selector,
        device=place,
        channel=card.channel,
        hashes={**mixture.hashes, **{entry.dataset: entry.weights_sha256 for entry in card.experts}},
    )


def load_foundation_alone(
    name: str, *, device: str | torch.device = "cpu", weights_root: Path | None = None
) -> Mixture:
    """The foundation as a mixture without experts: what was there before anything was finetuned."""
    stored = find_foundation(name, weights_root)
    return Mixture(
        foundation=load_foundation(name, device=device, weights_root=weights_root),
        view=stored.card.view,
        experts=(),
        gate=None,
        guards=(),
        tau=0.0,
        selector="general",
        device=torch.device(device),
        hashes={name: stored.card.weights_sha256},
    )


def load_expert(folder: Path, foundation: Foundation, entry: ExpertEntry | None = None) -> Expert:
    """One expert, on the foundation's device.

    Args:
        folder: with expert.json and expert.safetensors.
        foundation: it was finetuned on.
        entry: what a model folder knows of it; checked if given.

    Raises:
        CheckpointError: if its tensors are damaged or not exactly a decoder's.
        StaleCacheError: if it was trained again since the gate was.
    """
    card = ExpertCard.load(folder / "expert.json")
    if entry is not None:
        _expect_same(f"expert {entry.dataset}", card.weights_sha256, entry.weights_sha256, folder)
    tensors = load_tensors(folder / "expert.safetensors", card.weights_sha256)
    decoder = copy.deepcopy(foundation.mask_decoder)
    expected = set(decoder.state_dict())
    if set(tensors) != expected:
        raise CheckpointError(
            f"{folder}: not this foundation's decoder: missing {sorted(expected - set(tensors))[:3]}, "
            f"unexpected {sorted(set(tensors) - expected)[:3]}"
        )
    decoder.load_state_dict(tensors)
    return Expert(card.dataset, card.view, decoder.requires_grad_(False).eval())


def with_expert(mixture: Mixture, expert: Expert) -> Mixture:
    """The same foundation where one expert answers everything, known or not: for comparison, never for patients."""
    width = mixture.foundation.config.encoder.out_chans
    gate = Gate(GateConfig(width=width, n_experts=1, hidden=1))
    with torch.no_grad():
        gate.out.weight.zero_()
        gate.out.bias.copy_(torch.tensor([-100.0, 100.0]))
    guard = Guard(N_IMAGE_GROUPS * width, 1)
    guard.limit.fill_(torch.inf)
    return replace(
        mixture,
        experts=(expert,),
        gate=gate.requires_grad_(False).to(mixture.device),
        guards=(guard.to(mixture.device),),
        tau=0.0,
        selector="specific",
    )


def _load_gate(path: Path, sha256: str, card: GateCard) -> tuple[Gate, list[Guard]]:
    tensors = load_tensors(path, sha256)
    gate = Gate(GateConfig(width=card.width, n_experts=len(card.outputs) - 1, hidden=card.hidden))
    guards = [Guard(N_IMAGE_GROUPS * card.width, rank) for rank in card.guard_ranks]
    parts: dict[str, nn.Module] = {"gate.": gate, **{f"guard.{k}.": guard for k, guard in enumerate(guards, start=1)}}
    try:
        for prefix, module in parts.items():
            own = {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}
            module.load_state_dict(own)
    except RuntimeError as error:
        raise CheckpointError(f"{path}: does not fit gate.json ({error}); run `moe train-gate` again") from error
    return gate.requires_grad_(False).eval(), guards


def _expect_same(what: str, found: str, expected: str, folder: Path) -> None:
    if found != expected:
        raise StaleCacheError(
            f"{folder}: the {what} is {found[:12]}, but the gate was trained with {expected[:12]}; "
            "run `moe train-gate` again"
        )
