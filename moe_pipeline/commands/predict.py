"""The predict command: load a model, predict a folder, score it where there are references."""

import time
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from moe_pipeline.datasets.classes import classes_beside
from moe_pipeline.errors import PipelineError
from moe_pipeline.evaluation.folder import evaluate_folder
from moe_pipeline.evaluation.summary import summarise
from moe_pipeline.evaluation.table import METRICS_CSV, n_failed
from moe_pipeline.imaging.io.files import list_label_maps
from moe_pipeline.inference.batch.extra_outputs import Maps
from moe_pipeline.inference.batch.folder import Running, predict_folder
from moe_pipeline.inference.batch.prompt_sources import PromptSource
from moe_pipeline.inference.batch.resume import FINISHED
from moe_pipeline.inference.options import ModelChoice
from moe_pipeline.inference.search.experts import SearchOptions
from moe_pipeline.journal.written import Written
from moe_pipeline.mixture.model import Mixture
from moe_pipeline.mixture.settings import Settings
from moe_pipeline.paths import RUN_JSON, PredictionFolder
from moe_pipeline.progress import Progress, silent
from moe_pipeline.records.cases import CaseRow
from moe_pipeline.records.run import RunRecord, library_versions
from moe_pipeline.report.tables import as_text
from moe_pipeline.workspace import Workspace


@dataclass(frozen=True, slots=True)
class PredictOptions:
    """What the user may choose."""

    images: Path
    """Folder of images."""
    out: Path
    """Folder for label maps and tables."""
    prompts: Path | None = None
    """File or folder of prompts."""
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
    classes: tuple[str, ...] = ()
    """What to look for where there are no prompts: names or ids; all if empty."""
    experts: tuple[str, ...] = ()
    """Who looks for it; all if empty."""
    zoom: str = "off"
    """Whether the general expert looks again at other spacings: auto, in, out, off."""
    max_crops: int = Settings().max_windows
    """Crops that one object may take; 1 never leaves the first."""
    tta: bool = False
    """Also look at mirror images, an expert only along the axes it was trained with."""
    precision: str = "fp32"
    """Of the encoder's products: fp32 or bf16."""
    probabilities: bool = False
    """Write a map per class."""
    uncertainty: bool = False
    """Write a map of doubt per case."""
    dicom_seg: bool = False
    """Write a DICOM SEG per DICOM series."""
    jobs: int = 1
    """Cases at once, on the processor."""
    overwrite: bool = False
    """Also do what an earlier run has finished."""

    @property
    def reads(self) -> list[Path]:
        """Every path of these options but the one that is written to."""
        paths = (getattr(self, one.name) for one in fields(self) if one.name != "out")
        return [path for path in paths if isinstance(path, Path)]


@dataclass(frozen=True, slots=True)
class PredictReport:
    """What to tell the user."""

    text: str
    failed: bool


def predict_and_score(place: Workspace, options: PredictOptions, progress: Progress = silent) -> PredictReport:
    """Predict, write cases.csv and run.json, and dice.csv if there are references.

    References never reach the prediction, unless clicks are to be simulated from them.

    Raises:
        PipelineError: if options, model or folders do not fit; before anything is predicted.
    """
    began = time.monotonic()
    references = _references(options)
    choice = _choice(place, options)
    running = _running(options, choice)
    model = choice.load()
    names = classes_beside(options.labels) if options.labels else {}
    source = PromptSource(options.prompts, options.labels, names, options.clicks, options.seed, _search(options))
    tables = (RUN_JSON,) if references is None else (RUN_JSON, METRICS_CSV)
    reads = [path for path in (*options.reads, choice.folder, choice.weights_root, references) if path is not None]
    maps = Maps(options.probabilities, options.uncertainty, options.dicom_seg)
    rows = predict_folder(model, options.images, options.out, source, progress, reads, maps, running, tables)
    failures = [f"  {row.case}: {row.message}" for row in rows if row.status == "failed"]
    cases = sorted({row.case for row in rows if row.status != "failed"})
    lines = [f"{options.out}: {len(cases)} label maps, {len(failures)} failed cases", *failures]
    _record(model, options, cases, len(failures), time.monotonic() - began)
    if references is not None and cases:
        more, n_unscored = _score(options, references, rows, cases)
        lines += more
        failures += [""] * n_unscored
    return PredictReport("\n".join(lines), bool(failures))


def _search(options: PredictOptions) -> SearchOptions | None:
    if options.prompts is None and options.labels is None:
        return SearchOptions(options.classes, options.experts)
    if options.classes or options.experts:
        raise PipelineError("--classes and --experts say what to search for; leave out --prompts and --labels")
    return None


def _score(options: PredictOptions, references: Path, rows: list[CaseRow], cases: list[str]) -> tuple[list[str], int]:
    """Write dice.csv; lines for the terminal, and how many cases could not be scored."""
    scored = sorted(set(cases) & set(dict(list_label_maps(references))))
    without = sorted(set(cases) - set(scored))
    missing = f"no reference in {references} for {len(without)} of {len(cases)} cases: {', '.join(without[:5])}"
    if not scored:
        return [missing], len(without)
    classes = classes_beside(references) or {row.class_id: row.class_name for row in rows if row.class_id}
    table = evaluate_folder(options.out, references, classes, options.out, cases=scored)
    lines = ["", as_text(summarise(table)), *([missing] if without else []), f"details: {options.out / METRICS_CSV}"]
    lines += [f"  {row['case']}: {row['message']}" for _, row in table[table["status"] == "failed"].iterrows()]
    return lines, n_failed(table)


def _record(model: Mixture, options: PredictOptions, cases: list[str], n_failed_cases: int, seconds: float) -> None:
    record = RunRecord(
        command="predict",
        versions=library_versions(),
        device=options.device,
        settings={name: str(value) if isinstance(value, Path) else value for name, value in asdict(options).items()},
        inputs=model.hashes,
        seconds=round(seconds, 1),
        results={"label_maps": len(cases), "failed": n_failed_cases},
        files=[PredictionFolder.CASES, *(f"{case}.nii.gz" for case in cases)],
    )
    Written(options.out / FINISHED).write_text(RUN_JSON, record.as_text())


def _references(options: PredictOptions) -> Path | None:
    """The folder to compare with: as given, else what clicks are simulated from, else labelsXX beside imagesXX."""
    if options.references is not None and not options.references.is_dir():
        raise PipelineError(f"{options.references}: no such folder; expected reference label maps")
    return options.references or options.labels or _sibling_labels(options.images)


def _choice(place: Workspace, options: PredictOptions) -> ModelChoice:
    if options.foundation is not None and options.model is not None:
        raise PipelineError("a foundation alone has no model; leave out --model")
    return ModelChoice(
        folder=options.model or place.model,
        foundation=options.foundation,
        selector=options.selector,
        tau=options.tau,
        device=options.device,
        precision=options.precision,
        zoom=options.zoom,
        max_crops=options.max_crops,
        tta=options.tta,
        uncertainty=options.uncertainty,
        weights_root=place.weights,
    )


def _running(options: PredictOptions, choice: ModelChoice) -> Running:
    if options.jobs > 1 and options.device != "cpu":
        raise PipelineError(f"--jobs {options.jobs} is for the processor; {options.device} takes one case at a time")
    return Running(options.overwrite, options.jobs, choice)


def _sibling_labels(images: Path) -> Path | None:
    """The folder labelsTs beside imagesTs, or labelsTr beside imagesTr."""
    folder = images.resolve()
    sibling = folder.with_name(folder.name.replace("images", "labels", 1))
    return sibling if folder.name.startswith("images") and sibling.is_dir() else None
