"""What the planner must know of a foundation and of the machine; read from plans/, without the network."""

import json
from importlib.resources import files
from pathlib import Path
from typing import Any

from pydantic import Field

from moe_pipeline.errors import CheckpointError
from moe_pipeline.records.base import Part
from moe_pipeline.records.foundation import FoundationCard, View

_UPSCALED = 4  # the decoder's own mask has so many voxels along the edge of a token


class Limits(Part):
    """Rules that go with a foundation; plans/defaults.json."""

    min_object_low_res_voxels: float = Field(gt=0)
    """The median object of a class should be at least so many low-resolution voxels thick."""
    target_crops: int = Field(gt=0)
    """Crops that a cache should hold, copies included."""
    passes: float = Field(gt=0)
    """How often training sees each crop, on average."""
    steps_per_epoch: int = Field(gt=0)
    """Optimiser steps between validations."""
    batch_size: int = Field(gt=0)
    """Prompts per step, if memory allows."""


class Costs(Part):
    """What a foundation costs one thread of the machine that it was measured on; plans/defaults.json."""

    product_gflops: float = Field(gt=0)
    """Speed of matrix products of one thread there, from `machine.product_gflops`."""
    fixed_seconds: float = Field(ge=0)
    """To start, and to train the click proposer."""
    search_crops: int = Field(ge=0)
    """Crops that are encoded for the click proposer alone, at least."""
    encode_seconds: float = Field(gt=0)
    """To cut, augment and encode one crop."""
    voxel_seconds: float = Field(ge=0)
    """Per voxel of a case, each time that it is read and searched for places to cut from."""
    prompt_seconds: float = Field(gt=0)
    """Per prompt of a training step, with its share of the validations."""
    fixed_memory_mb: float = Field(gt=0)
    """Program, weights and the encoding of a few crops."""
    expert_mb: float = Field(ge=0)
    """Disk for the expert and for what continues its training."""
    prompt_memory_mb: float = Field(gt=0)
    """Per prompt of a training step."""
    label_bytes: float = Field(gt=0)
    """Per voxel of a label crop, packed."""


class ViewRules(Part):
    """How a view is chosen."""

    zoom_steps_mm: tuple[float, ...]
    """Spacings to choose from, besides the foundation's own."""
    fit_fraction: float = Field(gt=0, le=1)
    """Part of the cube that the large objects should fit into."""


class FoundationPreset(Part):
    """A foundation as the planner sees it."""

    name: str
    """Preset or imported weights."""
    view: View
    """What its weights were trained for."""
    embedding_values: int = Field(gt=0)
    """Numbers in the embedding of one crop."""
    low_res_voxels: int = Field(gt=0)
    """Edge of the decoder's own mask; a low-resolution voxel is the view's extent divided by it."""
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
        return planning_preset(name, card.view, card.config)
    folder = files("plans") / "foundations"
    presets = sorted(entry.name.removesuffix(".json") for entry in folder.iterdir() if entry.name.endswith(".json"))
    if name not in presets:
        imported = [] if weights_root is None else [path.stem for path in sorted(weights_root.glob("*.json"))]
        raise CheckpointError(f"no foundation {name!r}; there are: {', '.join([*presets, *imported])}")
    values = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
    return planning_preset(name, View.model_validate(values["view"]), values["config"])


def _cards(name: str, weights_root: Path | None) -> list[Path]:
    builtin = Path(str(files("moe_pipeline"))) / "weights" / "data"  # not the package: importing it imports torch
    folders = [builtin] if weights_root is None else [builtin, weights_root]
    return [folder / f"{name}.json" for folder in folders]


def planning_preset(name: str, view: View, config: dict[str, Any], like: str | None = None) -> FoundationPreset:
    """A foundation by its view and sizes, as its preset or its card has them.

    Args:
        name: its own name.
        view: what it was trained for.
        config: in the form of `FoundationConfig.to_dict()`.
        like: built-in foundation whose rules and costs to take; by default the one that is as large.
    """
    defaults = json.loads((files("plans") / "defaults.json").read_text(encoding="utf-8"))
    known = defaults["foundations"]
    size = view.size_voxels
    closest = like or (name if name in known else "nano" if size <= 64 else "sam_med3d")
    encoder = config["encoder"]
    grid = encoder["img_size"] // encoder["patch_size"]
    return FoundationPreset(
        name=name,
        view=view,
        embedding_values=(encoder["out_chans"] + _UPSCALED**3 * encoder.get("high_res_chans", 0)) * grid**3,
        low_res_voxels=_UPSCALED * grid,
        limits=Limits.model_validate(known[closest]["limits"]),
        costs=Costs.model_validate(known[closest]["costs"]),
        rules=ViewRules.model_validate(defaults["view"]),
        n_folds=defaults["folds"],
    )
