"""What the planner must know of a foundation, without its weights and without torch."""

from importlib.resources import files
from pathlib import Path

from pydantic import Field

from moe_pipeline.errors import CheckpointError
from moe_pipeline.model.config import Work
from moe_pipeline.model.geometry import FoundationGeometry
from moe_pipeline.model.sizes import NetworkSizes, read_sizes
from moe_pipeline.presets import Costs, Limits, ScaledCosts, ViewRules, load_preset, planning_defaults, preset_names
from moe_pipeline.records.base import Part
from moe_pipeline.records.foundation import FoundationCard, View


class FoundationPreset(Part):
    """A foundation as the planner sees it."""

    name: str
    """Preset or imported weights."""
    view: View
    """What its weights were trained for."""
    embedding_values: int = Field(gt=0)
    """Numbers in the embedding of one crop."""
    geometry: FoundationGeometry
    """Sides of its crop, and of the decoder's own mask."""
    limits: Limits
    """Its rules."""
    costs: Costs
    """What it costs."""
    rules: ViewRules
    """How a view is chosen."""
    n_folds: int = Field(ge=2)
    """Folds of the splits."""


def load_planning_preset(name: str, weights_root: Path | None = None) -> FoundationPreset:
    """A foundation by the name of its weights, or by the path of a .safetensors file with a card beside it.

    Weights that are there say what they are in their card; a preset serves those that are still to come.

    Raises:
        CheckpointError: if there is none of that name; lists those there are.
        RecordError: if the card is invalid.
    """
    cards = [Path(name).with_suffix(".json")] if name.endswith(".safetensors") else _cards(name, weights_root)
    card_path = next((path for path in cards if path.is_file()), None)
    if card_path is not None:
        card = FoundationCard.load(card_path)
        return planning_preset(name, card.view, read_sizes(card.config), card.preset)
    if name not in preset_names():
        imported = [] if weights_root is None else [path.stem for path in sorted(weights_root.glob("*.json"))]
        raise CheckpointError(f"no foundation {name!r}; there are: {', '.join([*preset_names(), *imported])}")
    preset = load_preset(name)
    return planning_preset(name, preset.view, preset.sizes, name)


def planning_preset(name: str, view: View, sizes: NetworkSizes, preset: str) -> FoundationPreset:
    """A foundation by its view and sizes.

    Args:
        name: its own name.
        view: what it was trained for.
        sizes: its sizes.
        preset: whose rules and costs hold for it.

    Raises:
        CheckpointError: if no rules are known for that preset.
    """
    defaults = planning_defaults()
    if preset not in defaults.foundations:
        known = ", ".join(defaults.foundations)
        raise CheckpointError(f"{name}: its card names the preset {preset!r}; rules are known for: {known}")
    rules = defaults.foundations[preset]
    return FoundationPreset(
        name=name,
        view=view,
        embedding_values=sizes.embedding_channels * sizes.geometry.n_tokens,
        geometry=sizes.geometry,
        limits=rules.limits,
        costs=_costs(rules.costs, defaults.least, sizes.work, load_preset(preset).sizes.work),
        rules=defaults.view,
        n_folds=defaults.folds,
    )


def _costs(known: Costs, least: ScaledCosts, own: Work, published: Work) -> Costs:
    """What was measured with a preset's own sizes, for others: all but the least grows with the work."""
    encoding, decoding = own.encoding / published.encoding, own.decoding / published.decoding
    grow = {
        "fixed_seconds": decoding,
        "encode_seconds": encoding,
        "prompt_seconds": decoding,
        "fixed_memory_mb": own.weights / published.weights,
        "expert_mb": own.weights / published.weights,
        "prompt_memory_mb": decoding,
    }
    least_of = least.model_dump()
    return known.model_copy(
        update={
            name: round(least_of[name] + (getattr(known, name) - least_of[name]) * ratio, 6)
            for name, ratio in grow.items()
        }
    )


def _cards(name: str, weights_root: Path | None) -> list[Path]:
    builtin = Path(str(files("moe_pipeline"))) / "weights" / "data"  # not the package: importing it imports torch
    folders = [builtin] if weights_root is None else [builtin, weights_root]
    return [folder / f"{name}.json" for folder in folders]
