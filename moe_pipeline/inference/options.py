"""How a case is answered, apart from who answers it."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import torch

from moe_pipeline.errors import PipelineError
from moe_pipeline.mixture.model import Mixture, load_foundation_alone, load_mixture
from moe_pipeline.mixture.settings import Settings, Zoom
from moe_pipeline.model.moe.selector import SelectorMode

Choice = TypeVar("Choice")
_PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}
_ZOOMS: dict[str, Zoom] = {"auto": "auto", "in": "in", "out": "out", "off": "off"}
_SELECTORS: dict[str, SelectorMode] = {"weighted": "weighted", "specific": "specific", "general": "general"}


@dataclass(frozen=True, slots=True)
class ModelChoice:
    """A model as it was asked for. It can be sent to another process, which loads the same."""

    folder: Path | None
    """Model folder; not looked at where there is a foundation."""
    foundation: str | None = None
    """Predict with a foundation alone."""
    selector: str | None = None
    """weighted, specific or general; the model's own if not given."""
    tau: float | None = None
    """Threshold of the selector; the model's own if not given."""
    device: str = "cpu"
    """Where to compute."""
    precision: str = "fp32"
    """Of the encoder's products: fp32 or bf16."""
    zoom: str = "off"
    """Whether the general expert looks again at other spacings: auto, in, out, off."""
    max_crops: int = Settings().max_windows
    """Crops that one object may take; 1 never leaves the first."""
    tta: bool = False
    """Also look at mirror images, an expert only along the axes it was trained with."""
    uncertainty: bool = False
    """Ask the general expert also where its answer has no weight."""
    weights_root: Path | None = None
    """A workspace's weights folder, for imported foundations."""

    def load(self) -> Mixture:
        """Load it.

        Raises:
            PipelineError: if a choice does not exist or contradicts another, or the model is missing or damaged.
        """
        selector = None if self.selector is None else _named(_SELECTORS, "selector", self.selector)
        dtype = _named(_PRECISIONS, "precision", self.precision)
        settings = Settings(
            zoom=_named(_ZOOMS, "zoom", self.zoom),
            max_windows=self.max_crops,
            flips=self.tta,
            always_general=self.uncertainty,
        )
        if self.foundation is None and self.folder is not None:
            mixture = load_mixture(
                self.folder,
                device=self.device,
                selector=selector,
                tau=self.tau,
                weights_root=self.weights_root,
                dtype=dtype,
            )
        elif self.foundation is not None:
            given = [name for name in ("selector", "tau") if getattr(self, name) is not None]
            if given:
                raise PipelineError(f"a foundation alone has no {' and no '.join(given)}; leave out --{given[0]}")
            mixture = load_foundation_alone(
                self.foundation, device=self.device, weights_root=self.weights_root, dtype=dtype
            )
        else:
            raise PipelineError("give a model folder or a foundation")
        return replace(mixture, settings=settings)


def _named(known: Mapping[str, Choice], what: str, name: str) -> Choice:
    if name not in known:
        raise PipelineError(f"no {what} {name!r}; there are: {', '.join(known)}")
    return known[name]
