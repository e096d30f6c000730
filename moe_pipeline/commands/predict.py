"""The predict command: load a model, predict a folder, score it where there are references."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from moe_pipeline.cluster.cases import CasesOnEngine, absolute
from moe_pipeline.cluster.engines import EngineOptions, as_engine, engine_file, open_engine
from moe_pipeline.commands.remote import local_copies
from moe_pipeline.datasets.classes import scored_classes_beside
from moe_pipeline.errors import PipelineError
from moe_pipeline.evaluation.folder import evaluate_folder
from moe_pipeline.evaluation.summary import summarise
from moe_pipeline.evaluation.table import METRICS_CSV, n_failed
from moe_pipeline.imaging.io.files import label_maps_in
from moe_pipeline.inference.batch.folder import predict_folder
from moe_pipeline.inference.batch.resume import FINISHED
from moe_pipeline.inference.batch.tally import Tally
from moe_pipeline.inference.options import PredictOptions
from moe_pipeline.journal.written import Written, refuse_unwritable
from moe_pipeline.mixture.model import Mixture
from moe_pipeline.paths import RUN_JSON, PredictionFolder, remote_url
from moe_pipeline.progress import Progress, silent
from moe_pipeline.records.cases import CaseRow
from moe_pipeline.records.run import RunRecord, library_versions
from moe_pipeline.report.tables import as_text
from moe_pipeline.workspace import Workspace


@dataclass(frozen=True, slots=True)
class PredictReport:
    """What to tell the user.

    Attributes:
        text: for the terminal.
        failed: whether any case failed or could not be scored.
        rows: of cases.csv.
    """

    text: str
    failed: bool
    rows: tuple[CaseRow, ...]


def predict_and_score(place: Workspace, options: PredictOptions, progress: Progress = silent) -> PredictReport:
    """Predict, write cases.csv and run.json, and dice.csv if there are references.

    References never reach the prediction, unless clicks are to be simulated from them. Images, outputs and
    the workspace may be addresses of a store, such as s3://bucket/scans.

    Raises:
        PipelineError: if options, model or folders do not fit; before anything is predicted.
    """
    with local_copies(place, options, progress) as (there, here):
        report = _predict(there, here, progress)
    if (url := remote_url(options.outputs.out)) is not None:
        return replace(report, text=report.text.replace(str(here.outputs.out), url))
    return report


def _predict(place: Workspace, options: PredictOptions, progress: Progress) -> PredictReport:
    began = time.monotonic()
    full = _completed(place, options)
    out, references = full.outputs.out, full.outputs.references
    refuse_unwritable(out)
    engine = _engine(place, full)
    model = (full.model if engine is None else replace(full.model, device="cpu")).load()
    tables = (RUN_JSON,) if references is None else (RUN_JSON, METRICS_CSV)
    outcome = predict_folder(model, full, progress, tables, engine)
    rows = outcome.rows
    failures = [f"  {row.case}: {row.message.removeprefix(f'{row.case}: ')}" for row in rows if row.status == "failed"]
    cases = sorted({row.case for row in rows if row.status != "failed"})
    lines = [
        f"{out}: {len(cases)} label maps, {len(failures)} failed cases",
        *outcome.tally.lines(),
        *outcome.notes,
        *([f"  done by {engine.told()}"] if engine else []),
        *failures,
    ]
    _record(model, full, cases, outcome.tally, time.monotonic() - began)
    n_unscored = 0
    if references is not None and cases:
        try:
            more, n_unscored = _score(out, references, rows, cases)
        except PipelineError as error:  # the label maps are there, and that there are no scores is said
            more, n_unscored = [f"not scored: {error}"], len(cases)
        lines += more
    return PredictReport("\n".join(lines), bool(failures or n_unscored), rows)


def _engine(place: Workspace, options: PredictOptions) -> CasesOnEngine | None:
    """Who does the cases, if not this process; what is missing for it is said before anything else is done."""
    run = options.run
    chosen = EngineOptions(engine=as_engine(run.engine), ray_address=run.ray_address, jobs=run.jobs)
    if chosen.is_local:
        return None
    resources = engine_file(place).of("predict")
    return CasesOnEngine.of(open_engine(chosen), resources, absolute(options.model), options.outputs.out)


def _completed(place: Workspace, options: PredictOptions) -> PredictOptions:
    """The same with the workspace's model, and with the references that are meant where none are named."""
    given = options.outputs.references
    if given is not None and not given.is_dir():
        raise PipelineError(f"{given}: no such folder; expected reference label maps")
    references = given or options.prompts.labels or _sibling_labels(options.run.images)
    run = options.run
    if run.engine != "local":  # a worker may stand in another folder
        options = replace(
            options,
            run=replace(run, images=run.images.resolve()),
            outputs=replace(options.outputs, out=options.outputs.out.resolve()),
            prompts=options.prompts.absolute(),
        )
    return replace(options, model=options.model.within(place), outputs=replace(options.outputs, references=references))


def _score(out: Path, references: Path, rows: Sequence[CaseRow], cases: list[str]) -> tuple[list[str], int]:
    """Write dice.csv; lines for the terminal, and how many cases could not be scored."""
    there = label_maps_in(references)
    scored = sorted(set(cases) & {*dict(there.files), *there.doubled})
    without = sorted(set(cases) - set(scored))
    missing = f"no reference in {references} for {len(without)} of {len(cases)} cases: {', '.join(without[:5])}"
    if not scored:
        return [missing], len(without)
    named, regions = scored_classes_beside(references)
    classes = named or {row.class_id: row.class_name for row in rows if row.class_id}
    table = evaluate_folder(out, references, classes, out, cases=scored, regions=regions)
    lines = ["", as_text(summarise(table)), *([missing] if without else []), f"details: {out / METRICS_CSV}"]
    lines += [f"  {row['case']}: {row['message']}" for _, row in table[table["status"] == "failed"].iterrows()]
    return lines, n_failed(table)


def _record(model: Mixture, options: PredictOptions, cases: list[str], tally: Tally, seconds: float) -> None:
    record = RunRecord(
        command="predict",
        versions=library_versions(),
        device=options.model.device,
        settings=options.by_name() | {"channel": model.channel},
        inputs=model.hashes,
        seconds=round(seconds, 1),
        results={"label_maps": len(cases), **tally.as_results()},
        files=[PredictionFolder.CASES, *(f"{case}.nii.gz" for case in cases)],
    )
    Written(options.outputs.out / FINISHED).write_text(RUN_JSON, record.as_text())


def _sibling_labels(images: Path) -> Path | None:
    """The folder labelsTs beside imagesTs, or labelsTr beside imagesTr."""
    folder = images.resolve()
    sibling = folder.with_name(folder.name.replace("images", "labels", 1))
    return sibling if folder.name.startswith("images") and sibling.is_dir() else None
