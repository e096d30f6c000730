"""The predict command: load a model, predict a folder, score it where there are references."""

import time
from dataclasses import dataclass
from pathlib import Path

from moe_pipeline.errors import PipelineError
from moe_pipeline.evaluation.folder import evaluate_folder
from moe_pipeline.evaluation.summary import summarise
from moe_pipeline.evaluation.table import METRICS_CSV
from moe_pipeline.imaging.files import list_images
from moe_pipeline.inference.folder import PromptSource, predict_folder
from moe_pipeline.inference.model import Mixture, load_foundation_alone, load_model
from moe_pipeline.model.mixture import SelectorMode
from moe_pipeline.planning.classes import classes_beside
from moe_pipeline.progress import Progress, silent
from moe_pipeline.records.run import RunRecord, library_versions
from moe_pipeline.report.tables import as_text
from moe_pipeline.workspace import Workspace

_SELECTORS: dict[str, SelectorMode] = {"weighted": "weighted", "specific": "specific", "general": "general"}


@dataclass(frozen=True, slots=True)
class PredictOptions:
    """What the user may choose."""

    images: Path
    """Folder of images."""
    out: Path
    """Folder for label maps and tables."""
    prompts: Path | None = None
    """prompts.json."""
    labels: Path | None = None
    """References to simulate clicks from."""
    references: Path | None = None
    """References for dice.csv only; `labels`, or labelsXX beside imagesXX, if not given."""
    clicks: int = 1
    """Simulated clicks per class."""
    model: Path | None = None
    """Model folder; the workspace's if not given."""
    foundation: str | None = None
    """Predict with a foundation alone."""
    selector: str | None = None
    """Instead of the model's."""
    tau: float | None = None
    """Instead of the model's."""
    seed: int = 0
    """Of simulated clicks."""
    device: str = "cpu"
    """Where to compute."""


@dataclass(frozen=True, slots=True)
class PredictReport:
    """What to tell the user."""

    text: str
    failed: bool


def predict_and_score(place: Workspace, options: PredictOptions, progress: Progress = silent) -> PredictReport:
    """Predict, write cases.csv and run.json, and dice.csv if there are references.

    References never reach the prediction, unless clicks are to be simulated from them.

    Raises:
        PipelineError: if options, model or folders do not fit.
    """
    began = time.monotonic()
    model = _load(place, options)
    names = classes_beside(options.labels) if options.labels else {}
    source = PromptSource(options.prompts, options.labels, names, options.clicks, options.seed)
    rows = predict_folder(model, options.images, options.out, source, progress)
    failures = [f"  {row.case}: {row.message}" for row in rows if row.status == "failed"]
    done = len({row.case for row in rows}) - len(failures)
    lines = [f"{options.out}: {done} label maps, {len(failures)} failed cases", *failures]
    files = sorted(path.name for path in options.out.iterdir() if not path.name.startswith("."))
    references = options.references or options.labels or _sibling_labels(options.images)
    if references is not None and done:
        classes = classes_beside(references) or {row.class_id: row.class_name for row in rows if row.class_id}
        cases = sorted({row.case for row in rows if row.status != "failed"} & set(dict(list_images(references))))
        table = evaluate_folder(options.out, references, classes, options.out, cases=cases)
        lines += ["", as_text(summarise(table)), f"details: {options.out / METRICS_CSV}"]
    settings = {name: getattr(options, name) for name in options.__slots__}
    RunRecord(
        command="predict",
        versions=library_versions(),
        device=options.device,
        settings={name: str(value) if isinstance(value, Path) else value for name, value in settings.items()},
        inputs=model.hashes,
        seconds=round(time.monotonic() - began, 1),
        results={"label_maps": done, "failed": len(failures)},
        files=[*files, METRICS_CSV] if references is not None else files,
    ).save(options.out / "run.json")
    return PredictReport("\n".join(lines), bool(failures))


def _load(place: Workspace, options: PredictOptions) -> Mixture:
    if options.selector is not None and options.selector not in _SELECTORS:
        raise PipelineError(f"no selector {options.selector!r}; there are: {', '.join(_SELECTORS)}")
    if options.foundation is not None:
        return load_foundation_alone(options.foundation, device=options.device, weights_root=place.weights)
    return load_model(
        options.model or place.model,
        device=options.device,
        selector=_SELECTORS[options.selector] if options.selector else None,
        tau=options.tau,
        weights_root=place.weights,
    )


def _sibling_labels(images: Path) -> Path | None:
    """The folder labelsTs beside imagesTs, or labelsTr beside imagesTr."""
    folder = images.resolve()
    sibling = folder.with_name(folder.name.replace("images", "labels", 1))
    return sibling if folder.name.startswith("images") and sibling.is_dir() else None
