"""What may be chosen for a prediction, in records. Every option has the name that it has on the command line."""

from collections.abc import Collection
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

import torch

from moe_pipeline.errors import PipelineError, PromptError
from moe_pipeline.mixture.model import Mixture, load_foundation_alone, load_mixture
from moe_pipeline.model.moe.selector import SelectorMode
from moe_pipeline.workspace import Workspace

Zoom = Literal["auto", "in", "out", "off"]
_ZOOMS: dict[str, Zoom] = {"auto": "auto", "in": "in", "out": "out", "off": "off"}
_PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}
_SELECTORS: dict[str, SelectorMode] = {"weighted": "weighted", "specific": "specific", "general": "general"}


def _check_choice(name: str, found: str, known: Collection[str]) -> None:
    if found not in known:
        raise PipelineError(f"no {name} {found!r}; there are: {', '.join(known)}")


def _check_least(name: str, found: int, least: int) -> None:
    if found < least:
        raise PipelineError(f"{name}: expected at least {least}, found {found}")


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentOptions:
    """How every object of a case is answered, whoever answers it."""

    zoom: Zoom = "off"
    """Whether the general expert may look again at another spacing: finer where the object is small ("in"), coarser
    where it is wider than the cube ("out"), both ("auto"), or never ("off")."""
    max_crops: int = 64
    """Crops that one object may take per decoder; 1 never leaves the first."""
    tta: bool = False
    """Average over the crop and its three mirror images, an expert only along the axes it was trained with."""
    own_crops: bool = False
    """Give each object first crops of its own, also where its prompt does not ask for that; else objects that lie close
    together share one, which is quicker, and their masks depend a little on each other."""
    uncertainty: bool = False
    """Also make a map of how far the answers can be trusted, and ask the general expert for it also where its answer
    has no weight."""
    keep_answers: bool = False
    """Also return what the decoders said, for probabilities."""

    def __post_init__(self) -> None:
        _check_choice("zoom", self.zoom, _ZOOMS)
        _check_least("max_crops", self.max_crops, 1)


PLAIN = SegmentOptions()
"""One look at each object, followed where it goes: what is done unless something else is asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelOptions:
    """A model, and how closely it looks. It can be sent to another process, which loads the same."""

    model: Path | None = None
    """Model folder; the workspace's if not given."""
    foundation: str | None = None
    """Predict with this foundation alone."""
    selector: str | None = None
    """weighted, specific or general; the model's own if not given."""
    tau: float | None = None
    """Threshold of the selector; the model's own if not given."""
    device: str = "cpu"
    """Where to compute."""
    precision: str = "fp32"
    """Of the encoder's products: fp32 or bf16."""
    zoom: str = "off"
    """Whether the general expert looks again at other spacings: auto, in, out or off."""
    max_crops: int = 64
    """Crops that one object may take."""
    tta: bool = False
    """Also look at mirror images."""
    own_crops: bool = False
    """Give each object first crops of its own, also where its prompt does not ask for that."""
    weights_root: Path | None = None
    """A workspace's weights folder, for imported foundations."""

    def __post_init__(self) -> None:
        _check_choice("zoom", self.zoom, _ZOOMS)
        _check_choice("precision", self.precision, _PRECISIONS)
        if self.selector is not None:
            _check_choice("selector", self.selector, _SELECTORS)
        if self.tau is not None and not 0 <= self.tau <= 1:
            raise PipelineError(f"tau: expected a number from 0 to 1, found {self.tau:g}")
        _check_least("max_crops", self.max_crops, 1)
        for name in ("model", "selector", "tau"):
            if self.foundation is not None and getattr(self, name) is not None:
                raise PipelineError(f"a foundation alone has no {name}; leave out --{name}")

    def within(self, place: Workspace) -> "ModelOptions":
        """The same, with the workspace's model and weights where none are named."""
        model = place.model if self.model is None and self.foundation is None else self.model
        return replace(self, model=model, weights_root=self.weights_root or place.weights)

    def segment(self, *, uncertainty: bool = False, keep_answers: bool = False) -> SegmentOptions:
        """How the model answers, with what else is wanted of an answer."""
        return SegmentOptions(
            zoom=_ZOOMS[self.zoom],
            max_crops=self.max_crops,
            tta=self.tta,
            own_crops=self.own_crops,
            uncertainty=uncertainty,
            keep_answers=keep_answers,
        )

    def load(self) -> Mixture:
        """Load it.

        Raises:
            PipelineError: if neither model nor foundation is named, or what is named is missing or damaged.
        """
        dtype = _PRECISIONS[self.precision]
        if self.foundation is not None:
            return load_foundation_alone(
                self.foundation, device=self.device, weights_root=self.weights_root, dtype=dtype
            )
        if self.model is None:
            raise PipelineError("give a model folder or a foundation")
        return load_mixture(
            self.model,
            device=self.device,
            selector=None if self.selector is None else _SELECTORS[self.selector],
            tau=self.tau,
            weights_root=self.weights_root,
            dtype=dtype,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchOptions:
    """What the experts look for where there are no prompts."""

    classes: tuple[str, ...] = ()
    """Names or ids; all if empty."""
    experts: tuple[str, ...] = ()
    """Names as `Dataset004_Hippocampus`, `Hippocampus` or `4`; all if empty."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptOptions:
    """Where the clicks come from: prompts, references that a simulated user clicks by, words, or else a search."""

    prompts: Path | None = None
    """In any of our formats: a file, or a folder with one per case."""
    labels: Path | None = None
    """Folder of references to simulate clicks from. An evaluation, and every row says so."""
    clicks: int = 1
    """Simulated clicks per class."""
    seed: int = 0
    """Of simulated clicks."""
    text: tuple[str, ...] = ()
    """Objects named in words, for a foundation that takes text."""
    classes: tuple[str, ...] = ()
    """As in `SearchOptions`, as for the next one."""
    experts: tuple[str, ...] = ()
    """Who looks."""

    def __post_init__(self) -> None:
        if (self.prompts is not None) + (self.labels is not None) + bool(self.text) > 1:
            raise PromptError("give one source of clicks: --prompts FILE, --labels DIR, --text NAME, or none to search")
        if self.search is None and (self.classes or self.experts):
            raise PipelineError(
                "--classes and --experts say what to search for; leave out --prompts, --labels and --text"
            )
        if any(not name.strip() for name in self.text):
            raise PromptError("--text: an empty name; expected one such as liver")
        _check_least("clicks", self.clicks, 1)

    def absolute(self) -> "PromptOptions":
        """The same with paths that mean the same in another folder."""
        return replace(
            self,
            prompts=None if self.prompts is None else self.prompts.resolve(),
            labels=None if self.labels is None else self.labels.resolve(),
        )

    @property
    def search(self) -> SearchOptions | None:
        """What to search for; None where clicks are given or simulated."""
        if self.prompts is not None or self.labels is not None or self.text:
            return None
        return SearchOptions(classes=self.classes, experts=self.experts)


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputOptions:
    """What is written, and where."""

    out: Path
    """Folder for label maps and tables."""
    references: Path | None = None
    """Folder of label maps for dice.csv, which never reach the prediction; `labels`, or labelsXX beside imagesXX, if
    not given."""
    save_probabilities: bool = False
    """Also write `probabilities/<case>/<class id>.nii.gz`."""
    uncertainty: bool = False
    """Also write `uncertainty/<case>.nii.gz`: where to look twice."""
    dicom_seg: bool = False
    """Also write `<case>.dcm` where the image is a DICOM series."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """What is worked through, and how. How does not change a label map."""

    images: Path
    """Folder of images."""
    jobs: int = 1
    """Cases at once, each in a process of its own, on the processor."""
    overwrite: bool = False
    """Also do the cases that an earlier run has finished with the same inputs."""
    engine: str = "local"
    """Where cases are done: local, slurm or ray."""
    ray_address: str | None = None
    """Of a Ray cluster; one is started if not given."""

    def __post_init__(self) -> None:
        _check_least("jobs", self.jobs, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictOptions:
    """All that may be chosen for the prediction of a folder."""

    model: ModelOptions = ModelOptions()
    """Who answers."""
    prompts: PromptOptions = PromptOptions()
    """What is asked."""
    outputs: OutputOptions
    """What is written."""
    run: RunOptions
    """What is worked through."""

    def __post_init__(self) -> None:
        if self.run.jobs > 1 and self.model.device != "cpu":
            raise PipelineError(
                f"--jobs {self.run.jobs} is for the processor; {self.model.device} takes one case at a time"
            )

    @property
    def segment(self) -> SegmentOptions:
        """How every object is answered."""
        outputs = self.outputs
        return self.model.segment(uncertainty=outputs.uncertainty, keep_answers=outputs.save_probabilities)

    @property
    def reads(self) -> tuple[Path, ...]:
        """Every path of these options but the one that is written to."""
        records = (self.model, self.prompts, self.outputs, self.run)
        values = [getattr(record, one.name) for record in records for one in fields(record) if one.name != "out"]
        return tuple(value for value in values if isinstance(value, Path))

    def by_name(self) -> dict[str, Any]:
        """All options by their names, for run.json; paths hold from wherever it is read."""
        records = (self.model, self.prompts, self.outputs, self.run)
        named = {name: value for record in records for name, value in asdict(record).items()}
        return {name: str(value.resolve()) if isinstance(value, Path) else value for name, value in named.items()}
