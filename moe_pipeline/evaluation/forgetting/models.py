"""The models that are compared: foundation, experts, wholly finetuned networks, mixture."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from moe_pipeline.evaluation.forgetting.matrix import GENERAL, GENERAL_IN_EXPERT_VIEW, MOE, SFT
from moe_pipeline.files import sha256_json
from moe_pipeline.mixture.model import Mixture, load_foundation_alone, load_mixture, with_expert
from moe_pipeline.paths import ExpertFolder, ModelFolder
from moe_pipeline.records.experts import ExpertCard
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

    def identity(self, name: str) -> str:
        """Hash of everything that the answers on a set depend on."""
        model = self.model_for(name)
        assert model is not None, f"column {self.name} on {name}"
        parts = {
            "model": self.name,
            "weights": model.hashes,
            "views": [view.model_dump() for view in (model.view, *(expert.view for expert in model.experts))],
            "selector": [model.selector, model.tau],
            "gate": self.gate,
        }
        return sha256_json(parts)


def load_compared_models(
    place: Workspace, model_folder: Path, device: str, *, experts_everywhere: bool = True
) -> list[ComparedModel]:
    """All columns of a model folder, on one copy of the foundation.

    Args:
        place: the workspace.
        model_folder: of the mixture.
        device: where to compute.
        experts_everywhere: whether each expert answers the sets of the others, too.

    Raises:
        PipelineError: if the model folder is incomplete.
    """
    model = load_mixture(model_folder, device=device, weights_root=place.weights)
    general = replace(model, experts=(), router=None, selector="general", hashes=_foundation_hashes(model))
    models = [ComparedModel(GENERAL, model.view.in_words, general)]
    own = {expert.name: replace(general, view=expert.view) for expert in model.experts if expert.view != model.view}
    if own:
        spacings = "; ".join(sorted({other.view.in_words for other in own.values()}))
        models.append(ComparedModel(GENERAL_IN_EXPERT_VIEW, spacings, by_set=own))
    for expert in model.experts:
        alone = with_expert(general, expert)
        hashes = {**general.hashes, expert.name: model.hashes[expert.name]}
        alone = replace(alone, hashes=hashes)
        everywhere, by_set = (alone, {}) if experts_everywhere else (None, {expert.name: alone})
        models.append(ComparedModel(expert.name, expert.view.in_words, everywhere, by_set))
    models += [_wholly_finetuned(name, path, general, device) for name, path in _sft_files(place, model_folder)]
    chosen = f"gate and general expert {model.view.in_words}, each expert its own"
    models.append(ComparedModel(MOE, chosen, model, gate=ModelCard.load(ModelFolder(model_folder).card).sha256()))
    return models


def _sft_files(place: Workspace, model_folder: Path) -> list[tuple[str, Path]]:
    """Datasets of the model's experts on whose very fold a whole network was finetuned too, and its weights."""
    card = ModelCard.load(ModelFolder(model_folder).card)
    experts = [ExpertCard.load(ExpertFolder(model_folder / entry.folder).card) for entry in card.experts]
    files = [(expert.dataset, place.sft(expert.dataset, expert.fold) / f"{SFT_NAME}.safetensors") for expert in experts]
    return [(dataset, path) for dataset, path in files if path.is_file()]


def _wholly_finetuned(dataset: str, path: Path, general: Mixture, device: str) -> ComparedModel:
    """A finetuned network in the view it was finetuned in on its own set, and in the foundation's on all others.

    So what it loses elsewhere is what its weights forgot, and not what an unfamiliar view costs.
    """
    loaded = load_foundation_alone(str(path), device=device)
    hashes = {f"{SFT} of {dataset}": found for found in loaded.hashes.values()}
    own = replace(loaded, hashes=hashes, channel=general.channel)
    views = f"{own.view.in_words} on its own set, {general.view.in_words} elsewhere"
    return ComparedModel(f"{SFT} of {dataset}", views, replace(own, view=general.view), {dataset: own})


def _foundation_hashes(model: Mixture) -> dict[str, str]:
    experts = {expert.name for expert in model.experts}
    return {name: found for name, found in model.hashes.items() if name not in experts}
