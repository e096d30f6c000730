"""The whole mixture in memory: foundation, experts, gate, OOD detectors."""

from collections.abc import Collection
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor

from moe_pipeline.errors import RecordError, StaleCacheError
from moe_pipeline.files import sha256_file, sha256_json
from moe_pipeline.mixture.click_proposer import ExpertClickProposer, load_click_proposer
from moe_pipeline.mixture.expert import load_decoder
from moe_pipeline.mixture.gate_features import prompt_features
from moe_pipeline.mixture.gate_files import added_folder, load_gate
from moe_pipeline.model.foundation import Decoder, Foundation
from moe_pipeline.model.moe.claim import ClaimHead
from moe_pipeline.model.moe.gate import N_IMAGE_GROUPS, Gate, GateConfig, OODDetector
from moe_pipeline.model.moe.router import AddedExpert, Router
from moe_pipeline.model.moe.selector import GENERAL, Route, SelectorMode
from moe_pipeline.paths import ExpertFolder, GateFolder, ModelFolder
from moe_pipeline.records.experts import ExpertCard
from moe_pipeline.records.foundation import View
from moe_pipeline.records.moe import ExpertEntry, ModelCard
from moe_pipeline.weights.load import load_foundation
from moe_pipeline.weights.store import find_foundation


@dataclass(frozen=True, slots=True)
class Expert:
    """A finetuned decoder and what it expects to see."""

    name: str
    """Dataset it was finetuned on."""
    view: View
    """Its own view."""
    decoder: Decoder
    """Frozen."""
    click_proposer: ExpertClickProposer | None = None
    """Where it would click by itself; None if it was trained without."""
    classes: dict[int, str] = field(default_factory=dict)
    """Class ids and names that it was finetuned on."""
    mirror_axes: tuple[int, ...] = ()
    """Axes along which it knows mirror images: one that tells front from back takes each for the other in a mirror."""


@dataclass(frozen=True, slots=True)
class Mixture:
    """Everything prediction needs. Without experts it is the foundation alone."""

    foundation: Foundation
    """Frozen; its decoder is the general expert."""
    view: View
    """The view of the general expert and of the gate."""
    experts: tuple[Expert, ...]
    """In the order of the router's outputs after the general one."""
    router: Router | None
    """Gate and OOD detectors; None if there are no experts."""
    tau: float
    """Threshold of the selector."""
    selector: SelectorMode
    """How the selector mixes."""
    device: torch.device
    """Where all of it lives."""
    hashes: dict[str, str]
    """sha256 of the weights by name, for run.json."""
    identity: str = ""
    """Hash of what else decides its answers: gate, click proposers, precision."""
    channel: int = 0
    """Image channel that is shown."""
    weights_file: Path | None = None
    """Of the foundation, beside which its vocabulary lies if it takes text."""
    claims: tuple[ClaimHead | None, ...] = ()
    """By expert, what decides whether it answers where the gate names it; empty or None: the weight alone."""

    def claim_head(self, output: int) -> ClaimHead | None:
        """That of an output; None if its weight alone decides."""
        return self.claims[output - 1] if output != GENERAL and self.claims else None

    @torch.no_grad()
    def route(self, embedding: Tensor, coordinates: Tensor, labels: Tensor, refused: Collection[int] = ()) -> Route:
        """Who answers one prompt, or with claims who may claim it, from the general view's embedding.

        Args:
            embedding: (1, C, *grid).
            coordinates: (1, n, 3) voxels of the crop.
            labels: (1, n).
            refused: outputs of added experts whose claim did not hold.
        """
        if self.router is None or self.selector == "general":
            return Route(GENERAL, 0.0, GENERAL, 0.0, out_of_distribution=False)
        features = prompt_features(self.foundation, embedding, coordinates, labels)  # (1, 5C)
        if not any(self.claims):
            return self.router.route(features, self.tau, self.selector)
        named = self.router.route(features, 0.0, self.selector, refused)
        if self.claim_head(named.expert) is not None:
            return named
        return self.router.route(features, self.tau, self.selector, refused)

    @torch.no_grad()
    def ood_score(self, output: int, embedding: Tensor, coordinates: Tensor, labels: Tensor) -> float:
        """How far an image is from those of an expert, over what its OOD detector lets pass; args as for `route`."""
        assert self.router is not None, "no expert without a router"
        features = prompt_features(self.foundation, embedding, coordinates, labels)  # (1, 5C)
        return float(self.router.ood_scores(features)[0, output - 1])

    @torch.no_grad()
    def decided(self, named: Route, evidence: Tensor) -> Route:
        """Whether an expert that the gate named answers, by its claim; its mask's weight is the claim.

        Args:
            named: by `route`.
            evidence: (E,) of the prompt.
        """
        head = self.claim_head(named.expert)
        assert head is not None, "a route without a claim"
        claim = float(head(evidence.to(head.weight)[None])[0])
        if claim <= float(head.threshold):
            return Route(GENERAL, 0.0, named.expert, claim, named.out_of_distribution)
        weight = claim if self.selector == "weighted" else 1.0
        return Route(named.expert, weight, named.expert, claim, named.out_of_distribution)

    def name_of(self, output: int) -> str:
        """Name of an output: "general" or the expert's dataset."""
        return "general" if output == GENERAL else self.experts[output - 1].name


def load_mixture(
    folder: Path,
    *,
    device: str | torch.device = "cpu",
    selector: SelectorMode | None = None,
    tau: float | None = None,
    weights_root: Path | None = None,
    dtype: torch.dtype = torch.float32,
) -> Mixture:
    """Load a model folder.

    Args:
        folder: with moe.json, gate.json, gate.safetensors.
        device: where to put it.
        selector: instead of the folder's own.
        tau: instead of the folder's own, and of every expert's.
        weights_root: a workspace's weights folder, for imported foundations.
        dtype: of the image encoder's matrix products.

    Raises:
        RecordError: if a record is missing or invalid.
        CheckpointError: if weights are missing or damaged.
        StaleCacheError: if an expert or the foundation is not the one the gate was trained with.
    """
    card = ModelCard.load(ModelFolder(folder).card)
    name = foundation_of(folder, card)
    mixture = load_foundation_alone(name, device=device, weights_root=weights_root, dtype=dtype)
    (found,) = mixture.hashes.values()
    _expect_same(f"foundation {card.foundation}", found, card.foundation_sha256, folder)
    experts = tuple(load_expert(folder / entry.folder, mixture.foundation, entry) for entry in card.experts)
    router = load_router(folder, card).to(torch.device(device)) if card.experts else None
    claims = load_claims(folder, card, tau, torch.device(device))
    return Mixture(
        foundation=mixture.foundation,
        view=card.view,
        experts=experts,
        router=router,
        tau=card.tau if tau is None else tau,
        selector=selector or card.selector,
        device=torch.device(device),
        channel=card.channel,
        weights_file=mixture.weights_file,
        claims=claims,
        identity=sha256_json([mixture.identity, _gate_hashes(folder)]),
        hashes={**mixture.hashes, **{entry.dataset: entry.weights_sha256 for entry in card.experts}},
    )


def foundation_of(folder: Path, card: ModelCard) -> str:
    """What to load a model's foundation by: its file where the model folder has its own, else its name."""
    own = folder / "foundation" / f"{card.foundation}.safetensors"
    return str(own) if own.is_file() else card.foundation


def load_foundation_alone(
    name: str,
    *,
    device: str | torch.device = "cpu",
    weights_root: Path | None = None,
    dtype: torch.dtype = torch.float32,
) -> Mixture:
    """The foundation as a mixture without experts: what was there before anything was finetuned."""
    stored = find_foundation(name, weights_root)
    return Mixture(
        foundation=load_foundation(name, device=device, dtype=dtype, weights_root=weights_root),
        view=stored.card.view,
        experts=(),
        router=None,
        tau=0.0,
        selector="general",
        device=torch.device(device),
        identity=sha256_json([str(dtype), stored.card.view.model_dump(mode="json")]),
        hashes={stored.card.name: stored.card.weights_sha256},
        weights_file=stored.path,
    )


def _gate_hashes(folder: Path) -> list[str]:
    """Hashes of the records that name gate, OOD detectors and click proposers by their weights."""
    below = [path for name in (GateFolder.CARD, ExpertFolder.CARD) for path in sorted(folder.rglob(name))]
    return [sha256_file(path) for path in (ModelFolder(folder).card, *below)]


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
    card = ExpertCard.load(ExpertFolder(folder).card)
    if entry is not None:
        _expect_same(f"expert {entry.dataset}", card.weights_sha256, entry.weights_sha256, folder, entry.dataset)
        _expect_same_click_proposer(card, entry, folder)
    device = next(foundation.parameters()).device
    click_proposer = load_click_proposer(folder, card, device)
    decoder = load_decoder(folder, card, foundation)
    return Expert(card.dataset, card.view, decoder, click_proposer, card.classes, card.mirror_axes)


def with_expert(mixture: Mixture, expert: Expert) -> Mixture:
    """The same foundation where one expert answers everything, known or not: for comparison, never for patients."""
    width = mixture.foundation.embedding_width
    gate = Gate(GateConfig(width=width, n_experts=1, hidden=1))
    with torch.no_grad():
        gate.out.weight.zero_()
        gate.out.bias.copy_(torch.tensor([-100.0, 100.0]))
    ood_detector = OODDetector(N_IMAGE_GROUPS * width, 1)
    ood_detector.limit.fill_(torch.inf)
    return replace(
        mixture,
        experts=(expert,),
        router=Router(gate.requires_grad_(False), [ood_detector]).to(mixture.device),
        tau=0.0,
        selector="specific",
        claims=(),
    )


def load_router(folder: Path, card: ModelCard) -> Router:
    """The gate of a model folder, with its OOD detectors and with those who joined later.

    Raises:
        RecordError: if a card is missing or invalid, or names an expert that no gate knows.
        CheckpointError: if weights are missing, damaged, or do not fit their card.
    """
    trained, gate_card = load_gate(folder, card.gate_sha256)
    together = [entry.dataset for entry in card.experts if entry.added_gate_sha256 is None]
    unknown = [name for name in together if name not in gate_card.outputs[1:]]
    kept = [k for k, name in enumerate(gate_card.outputs) if name in together]
    if unknown or [gate_card.outputs[k] for k in kept] != together:
        raise RecordError(f"{folder}: moe.json has the experts {together}, gate.json {list(gate_card.outputs[1:])}")
    added_experts = []
    for entry in card.experts[len(together) :]:
        if entry.added_gate_sha256 is None:
            raise RecordError(f"{ModelFolder(folder).card}: {entry.dataset} stands behind experts that joined later")
        added, added_card = load_gate(added_folder(folder, entry.dataset), entry.added_gate_sha256)
        added_experts.append(AddedExpert(added.gate, added.ood_detectors[0], added_card.tau))
    return Router(trained.gate, trained.ood_detectors, kept, added_experts)


def load_claims(folder: Path, card: ModelCard, tau: float | None, device: torch.device) -> tuple[ClaimHead | None, ...]:
    """The claim head of each expert of a model folder, None for those whose weight alone decides.

    Args:
        folder: of the model.
        card: its moe.json.
        tau: threshold instead of their own.
        device: where to put them.
    """
    trained, gate = load_gate(folder, card.gate_sha256)
    together = dict(zip(gate.outputs[1:], trained.claims, strict=False))
    heads: list[ClaimHead | None] = []
    for entry in card.experts:
        if entry.added_gate_sha256 is None:
            heads.append(together.get(entry.dataset))
        else:
            added, _ = load_gate(added_folder(folder, entry.dataset), entry.added_gate_sha256)
            heads.append(added.claims[0] if added.claims else None)
    for head in heads:
        if head is not None:
            head.to(device)
            if tau is not None:
                head.threshold.fill_(tau)
    return tuple(heads)


def _expect_same(what: str, found: str, expected: str, folder: Path, expert: str | None = None) -> None:
    if found != expected:
        remedy = f"renew it with `moe experts update {expert}`, or " if expert else ""
        raise StaleCacheError(
            f"{folder}: the {what} is {found[:12]}, but the gate was trained with {expected[:12]}; "
            f"{remedy}run `moe train-gate` again"
        )


def _expect_same_click_proposer(card: ExpertCard, entry: ExpertEntry, folder: Path) -> None:
    found = card.click_proposer.weights_sha256 if card.click_proposer else None
    if found != entry.click_proposer_sha256:
        raise StaleCacheError(
            f"{folder}: the click proposer of {entry.dataset} is {found and found[:12]}, but the model folder names "
            f"{entry.click_proposer_sha256 and entry.click_proposer_sha256[:12]}; renew it with "
            f"`moe experts update {entry.dataset}`, or run `moe train-gate` again"
        )
