"""The models that are compared: foundation, experts, wholly finetuned networks, mixture."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path

import torch
from torch import Tensor, nn

from moe_pipeline.evaluation.forgetting.matrix import GENERAL, GENERAL_IN_EXPERT_VIEW, MOE, SFT
from moe_pipeline.files import sha256_json
from moe_pipeline.mixture.model import Mixture, load_foundation_alone, load_mixture, with_expert
from moe_pipeline.paths import ModelFolder
from moe_pipeline.records.foundation import View
from moe_pipeline.records.moe import ModelCard
from moe_pipeline.training.expert.full_finetune import NAME as SFT_NAME
from moe_pipeline.workspace import Workspace


@dataclass(frozen=True, slots=True)
class ComparedModel:
    """One model of the comparison."""

    name: str
    """Of the column."""
    view: str
    """What its decoders see, in words."""
    everywhere: Mixture | None = None
    """The model of all sets that have none of their own; None leaves the column empty there."""
    by_set: Mapping[str, Mixture] = field(default_factory=dict)
    """The model of some sets."""
    gate: str = ""
    """Hash of what routes, if anything does."""

    def model_for(self, name: str) -> Mixture | None:
        """Who answers a set; None where the column has nothing to say."""
        return self.by_set.get(name, self.everywhere)

    def models(self) -> list[Mixture]:
        """All models of the column."""
        return [*([self.everywhere] if self.everywhere else []), *self.by_set.values()]

    def identity(self, name: str) -> str:
        """Hash of everything that the answers on a set depend on."""
        model = self.model_for(name)
        assert model is not None, f"column {self.name} on {name}"
        parts = {
            "model": self.name,
            "weights": model.hashes,
            "views": [view.model_dump() for view in (model.view, *(expert.view for expert in model.experts))],
            "selector": [model.selector, model.tau],
            "settings": repr(model.settings),
            "gate": self.gate,
        }
        return sha256_json(parts)


def load_compared_models(place: Workspace, model_folder: Path, device: str) -> list[ComparedModel]:
    """All columns of a model folder, on one copy of the foundation that encodes no cube of a case twice.

    Raises:
        PipelineError: if the model folder is incomplete.
    """
    model = load_mixture(model_folder, device=device, weights_root=place.weights)
    remember_encodings(model)
    general = replace(model, experts=(), router=None, selector="general", hashes=_foundation_hashes(model))
    models = [ComparedModel(GENERAL, in_words(model.view), general)]
    own = {expert.name: replace(general, view=expert.view) for expert in model.experts if expert.view != model.view}
    if own:
        spacings = "; ".join(sorted({in_words(other.view) for other in own.values()}))
        models.append(ComparedModel(GENERAL_IN_EXPERT_VIEW, spacings, by_set=own))
    for expert in model.experts:
        alone = with_expert(general, expert)
        hashes = {**general.hashes, expert.name: model.hashes[expert.name]}
        models.append(ComparedModel(expert.name, in_words(expert.view), replace(alone, hashes=hashes)))
    models += [_wholly_finetuned(place, name, general, device) for name in _with_sft(place, model)]
    chosen = f"gate and general expert {in_words(model.view)}, each expert its own"
    models.append(ComparedModel(MOE, chosen, model, gate=ModelCard.load(ModelFolder(model_folder).card).sha256()))
    return models


def _with_sft(place: Workspace, model: Mixture) -> list[str]:
    """Datasets of the model's experts on which a whole network was finetuned too."""
    names = [expert.name for expert in model.experts]
    return [name for name in names if (place.sft(name) / f"{SFT_NAME}.safetensors").is_file()]


def _wholly_finetuned(place: Workspace, dataset: str, general: Mixture, device: str) -> ComparedModel:
    """A finetuned network in the view it was finetuned in on its own set, and in the foundation's on all others.

    So what it loses elsewhere is what its weights forgot, and not what an unfamiliar view costs.
    """
    path = place.sft(dataset) / f"{SFT_NAME}.safetensors"
    loaded = load_foundation_alone(str(path), device=device)
    remember_encodings(loaded)
    hashes = {f"{SFT} of {dataset}": found for found in loaded.hashes.values()}
    own = replace(loaded, hashes=hashes, channel=general.channel, settings=general.settings)
    views = f"{in_words(own.view)} on its own set, {in_words(general.view)} elsewhere"
    return ComparedModel(f"{SFT} of {dataset}", views, replace(own, view=general.view), {dataset: own})


def in_words(view: View) -> str:
    """A view for people."""
    return f"{view.spacing_mm:g} mm, {view.size_voxels} voxels"


def remember_encodings(model: Mixture) -> "EncodingMemory":
    """Let the encoder of a model's foundation remember what it has seen."""
    memory = EncodingMemory(model.foundation.image_encoder)
    model.foundation.image_encoder = memory  # type: ignore[assignment]  # called like the encoder it wraps
    return memory


class EncodingMemory(nn.Module):
    """An encoder that answers the same cube from memory. Forget after each case."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.seen: dict[bytes, Tensor] = {}

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """(B, 1, S, S, S) -> (B, C, g, g, g), exactly what the encoder gave the first time."""
        key = sha256(images.cpu().numpy().tobytes()).digest() + bytes(str(tuple(images.shape)), "ascii")
        if key not in self.seen:
            self.seen[key] = self.encoder(images)
        return self.seen[key]

    def forget(self) -> None:
        """Free the memory."""
        self.seen.clear()


def _foundation_hashes(model: Mixture) -> dict[str, str]:
    experts = {expert.name for expert in model.experts}
    return {name: found for name, found in model.hashes.items() if name not in experts}
