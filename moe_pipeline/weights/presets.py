"""The foundations we know sizes of, read from plans/foundations."""

import json
from dataclasses import dataclass
from importlib.resources import files

from moe_pipeline.errors import CheckpointError
from moe_pipeline.model.config import FoundationConfig
from moe_pipeline.records.foundation import View


@dataclass(frozen=True, slots=True)
class Preset:
    """Sizes of a foundation, and the view it was made for."""

    config: FoundationConfig
    """All sizes."""
    view: View
    """What its encoder sees."""


def preset_names() -> list[str]:
    """Names of all presets."""
    folder = files("plans") / "foundations"
    return sorted(entry.name.removesuffix(".json") for entry in folder.iterdir() if entry.name.endswith(".json"))


def load_preset(name: str) -> Preset:
    """One preset by name.

    Raises:
        CheckpointError: if there is none of that name; lists those there are.
    """
    if name not in preset_names():
        raise CheckpointError(f"no preset {name!r}; there are: {', '.join(preset_names())}")
    values = json.loads((files("plans") / "foundations" / f"{name}.json").read_text(encoding="utf-8"))
    return Preset(config=FoundationConfig.from_dict(values["config"]), view=View.model_validate(values["view"]))
