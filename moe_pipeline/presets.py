"""What plans/ states as data: foundations, planning rules, published weights, challenges, the paper's classes.

Nothing else reads it.
"""

import json
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, TypeAdapter, model_validator

from moe_pipeline.errors import CheckpointError, PipelineError
from moe_pipeline.model.config import FoundationConfig
from moe_pipeline.model.sizes import NetworkSizes, read_sizes
from moe_pipeline.records.base import Part, Record
from moe_pipeline.records.evaluation import MeasureRules
from moe_pipeline.records.foundation import View


@dataclass(frozen=True, slots=True)
class Preset:
    """Sizes of a foundation, and the view it was made for."""

    name: str
    """Of its file in plans/foundations."""
    sizes: NetworkSizes
    """All sizes."""
    view: View
    """What its encoder sees."""

    @property
    def config(self) -> FoundationConfig:
        """Sizes of a network of SAM-Med3D's kind, for those who know no other.

        Raises:
            CheckpointError: if it is of another kind.
        """
        if not isinstance(self.sizes, FoundationConfig):
            raise CheckpointError(f"{self.name}: no network of SAM-Med3D's kind; no other will do here")
        return self.sizes


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


class ScaledCosts(Part):
    """What grows with the sizes of a foundation, of one thread of the machine that it was measured on."""

    fixed_seconds: float = Field(ge=0)
    """To start, and to train the click proposer."""
    encode_seconds: float = Field(gt=0)
    """To cut, augment and encode one crop."""
    prompt_seconds: float = Field(gt=0)
    """Per prompt of a training step, with its share of the validations."""
    fixed_memory_mb: float = Field(gt=0)
    """Program, weights and the encoding of a few crops."""
    expert_mb: float = Field(ge=0)
    """Disk for the expert and for what continues its training."""
    prompt_memory_mb: float = Field(gt=0)
    """Per prompt of a training step."""


class Costs(ScaledCosts):
    """What a foundation costs one thread of the machine that it was measured on; plans/defaults.json."""

    product_gflops: float = Field(gt=0)
    """Speed of matrix products of one thread there, from `machine.product_gflops`."""
    search_crops: int = Field(ge=0)
    """Crops that are encoded for the click proposer alone, at least."""
    voxel_seconds: float = Field(ge=0)
    """Per voxel of a case, each time that it is read and searched for places to cut from."""
    label_bytes: float = Field(gt=0)
    """Per voxel of a label crop, packed."""


class ViewRules(Part):
    """How a view is chosen."""

    zoom_steps_mm: tuple[float, ...]
    """Spacings to choose from, besides the foundation's own."""
    fit_fraction: float = Field(gt=0, le=1)
    """Part of the crop that the large objects should fit into."""


class PresetRules(Part):
    """How datasets are planned for foundations of one preset; plans/defaults.json."""

    used_for: str
    """What it is good for, in words."""
    limits: Limits
    """Rules that go with it."""
    costs: Costs
    """What it costs."""


class PlanningDefaults(Part):
    """plans/defaults.json."""

    view: ViewRules
    """How a view is chosen."""
    folds: int = Field(ge=2)
    """Folds of the splits."""
    least: ScaledCosts
    """What no size of a foundation undercuts."""
    foundations: dict[str, PresetRules]
    """By preset."""


class PublishedWeights(Part):
    """Weights that someone published; plans/published_weights.json."""

    preset: str
    """Preset with their sizes and view."""
    repository: str
    """Repository on the Hugging Face hub."""
    file: str
    """File in it."""
    licence: str
    """As stated there."""

    @property
    def page(self) -> str:
        """Page to download the file by hand."""
        return f"https://huggingface.co/{self.repository}"


class Container(Part):
    """Where a challenge puts one image for an algorithm, and where it looks for the label map."""

    images: str
    """Folder with the image, below the folder that is handed over."""
    label_map: str
    """File, below the folder that is handed back."""
    class_name: str
    """Class that the label map shows, as 1."""


class Challenge(Part):
    """How a challenge measures; plans/challenges.json."""

    title: str
    """For people."""
    source: str
    """Where its rules were read."""
    measures: MeasureRules
    """How each class of each case is measured."""
    metrics: tuple[Literal["dice", "iou", "nsd", "hd95_mm", "volumetric_similarity"], ...] = Field(min_length=1)
    """Columns of dice.csv that count."""
    classes: Literal["all", "of_reference"]
    """Which classes of a case go into its mean: all, or those that its reference has."""
    statistics: tuple[Literal["mean", "median", "std"], ...] = Field(min_length=1)
    """Over the cases that have a value; std divides by their number."""
    clicks: int = Field(default=0, ge=0)
    """If any, a case has a prediction after each of so many clicks; its scores are the area under the line through
    them, a click apart, and the last of them."""
    nsd_above_dice: float | None = None
    """The NSD of a case counts as 0 unless its Dice is above this."""
    container: Container | None = None
    """Where an algorithm finds its image; None if that is not known."""


def challenges() -> dict[str, Challenge]:
    """All challenges by name."""
    return TypeAdapter(dict[str, Challenge]).validate_python(_read("challenges.json"))


def load_challenge(name: str) -> Challenge:
    """One challenge by name.

    Raises:
        PipelineError: if there is none of that name; lists those there are.
    """
    known = challenges()
    if name not in known:
        raise PipelineError(f"no preset {name!r}; there are: {', '.join(known)}")
    return known[name]


class PaperClasses(Record):
    """Classes of a table of the paper; plans/totalsegmentator_classes.json, or a user's copy of it."""

    note: str = ""
    """For people."""
    source: str = ""
    """Where the gains were read."""
    finetuned: dict[str, float | None] = Field(min_length=1)
    """Class to the Dice that the paper's mixture gained on it, if that is known."""
    not_finetuned: tuple[str, ...] = ()
    """Further classes of the same scans, which show what was forgotten."""

    @model_validator(mode="after")
    def _nothing_is_both(self) -> "PaperClasses":
        if both := sorted(set(self.finetuned) & set(self.not_finetuned)):
            raise ValueError(f"not_finetuned: {', '.join(both)} is finetuned")
        return self


def totalsegmentator_classes() -> PaperClasses:
    """Those that the paper's abstract names."""
    return PaperClasses.model_validate(_read("totalsegmentator_classes.json"))


def preset_names() -> list[str]:
    """Names of all presets."""
    folder = files("plans") / "foundations"
    return sorted(entry.name.removesuffix(".json") for entry in folder.iterdir() if entry.name.endswith(".json"))


def load_preset(name: str) -> Preset:
    """One preset by name, or from a file.

    Args:
        name: one of `preset_names`; or a JSON file of the same form, which names under `like` the preset whose rules
            and costs hold for it, too.

    Raises:
        CheckpointError: if there is none of that name; lists those there are. Or if the file is none.
    """
    if name.endswith(".json"):
        return _read_preset(Path(name))
    if name not in preset_names():
        raise CheckpointError(f"no preset {name!r}; there are: {', '.join(preset_names())}")
    values = _read(f"foundations/{name}.json")
    return Preset(name, read_sizes(values["config"]), View.model_validate(values["view"]))


def _read_preset(path: Path) -> Preset:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        preset = Preset(values["like"], read_sizes(values["config"]), View.model_validate(values["view"]))
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise CheckpointError(f"{path}: no preset; expected JSON with like, config and view: {error}") from error
    return replace(load_preset(preset.name), sizes=preset.sizes, view=preset.view)  # which knows that name


@cache
def planning_defaults() -> PlanningDefaults:
    """The planner's rules."""
    return PlanningDefaults.model_validate(_read("defaults.json"))


def zoom_steps_mm() -> tuple[float, ...]:
    """Spacings that a view may have besides the foundation's own, ascending."""
    return tuple(sorted(planning_defaults().view.zoom_steps_mm))


def published_weights() -> dict[str, PublishedWeights]:
    """All weights that can be fetched, by name."""
    return TypeAdapter(dict[str, PublishedWeights]).validate_python(_read("published_weights.json"))


def _read(name: str) -> Any:
    return json.loads((files("plans") / name).read_text(encoding="utf-8"))
