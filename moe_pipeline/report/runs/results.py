"""What a prediction or an evaluation left in its folder: rows, scores, clicks, and where the images are."""

import csv
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from pydantic import ValidationError

from moe_pipeline.errors import PipelineError, RecordError
from moe_pipeline.evaluation.table import read_table, to_table
from moe_pipeline.imaging.io.files import list_images, list_label_maps
from moe_pipeline.inference.batch.prompt_sources import channel_file
from moe_pipeline.paths import RUN_JSON, PredictionFolder
from moe_pipeline.prompts.prompt import LPS_TO_RAS
from moe_pipeline.records.cases import CaseRow
from moe_pipeline.records.prompts import PromptFile
from moe_pipeline.records.run import RunRecord
from moe_pipeline.report.options import ReportOptions
from moe_pipeline.report.runs.facts import record_in
from moe_pipeline.report.scans.scan import ScanFiles, ShownClick


@dataclass(frozen=True, slots=True)
class Results:
    """A prediction, an evaluation, or both."""

    folder: Path
    """Where its tables are."""
    rows: tuple[CaseRow, ...]
    """Of cases.csv; none for an evaluation of somebody else's label maps."""
    scores: pd.DataFrame
    """As dice.csv; empty without references."""
    record: RunRecord | None
    """run.json, else evaluation.json, if there is one."""
    images: dict[str, Path]
    """By case, those that are found."""
    predictions: dict[str, Path]
    """Label maps by case."""
    references: dict[str, Path]
    """Likewise."""
    channel: int
    """Of the images, that the model looked at."""
    missing: str
    """Why there are no images; empty if there are."""

    @property
    def cases(self) -> list[str]:
        """Every case of the tables, in their order."""
        return list(dict.fromkeys([*(row.case for row in self.rows), *self.scores["case"]]))

    def files_of(self, case: str) -> ScanFiles | None:
        """Where a case lies; None if its image is not to be had."""
        image = self.images.get(case)
        if image is None:
            return None
        prediction, reference = self.predictions.get(case), self.references.get(case)
        return ScanFiles(channel_file(image, self.channel), prediction, reference, self._clicks(case))

    def _clicks(self, case: str) -> tuple[ShownClick, ...]:
        path = self.folder / PredictionFolder.CLICKS / f"{case}.json"
        if not path.is_file():
            return ()
        return tuple(
            ShownClick((x, y, z), bool(label), one.class_id)
            for one in PromptFile.load(path).cases.get(case, ())
            for point, label in zip(one.points, one.labels, strict=True)
            for x, y, z in [[float(mm) for mm in LPS_TO_RAS * point]]
        )


def read_results(folder: Path, options: ReportOptions) -> Results:
    """Read what is there.

    Raises:
        RecordError: if a table is damaged.
    """
    cases, metrics = folder / PredictionFolder.CASES, folder / PredictionFolder.METRICS
    run, evaluation = (record_in(folder, name) for name in (RUN_JSON, PredictionFolder.EVALUATION))
    given = Path(str(evaluation.settings["predictions"])) if evaluation else folder
    made = run or record_in(given)
    settings = (made.settings if made else {}) | (evaluation.settings if evaluation else {})
    images, missing = _images(options.images or settings.get("images"))
    references = options.references or settings.get("references")
    return Results(
        folder=folder,
        rows=read_cases(cases) if cases.is_file() else (),
        scores=read_table(metrics) if metrics.is_file() else to_table(()),
        record=run or evaluation,
        images=images,
        predictions=_label_maps(given),
        references=_label_maps(Path(str(references))) if references else {},
        channel=int(settings.get("channel", 0)),
        missing=missing,
    )


def read_cases(path: Path) -> tuple[CaseRow, ...]:
    """The rows of a cases.csv.

    Raises:
        RecordError: if a row breaks the format.
    """
    with path.open(newline="", encoding="utf-8") as stream:
        lines = [{name: cell for name, cell in line.items() if cell} for line in csv.DictReader(stream)]
    try:
        rows = [CaseRow.model_validate(line) for line in lines]
    except ValidationError as error:
        raise RecordError(f"{path}: not a table of cases: {error}") from error
    return tuple(row for row in rows if not _never_asked(row))


def _never_asked(row: CaseRow) -> bool:
    """Of a class that a simulated user could not click on, because the reference does not have it."""
    return row.status == "absent" and row.prompt_source == "labels" and row.n_clicks is None


def _images(folder: object) -> tuple[dict[str, Path], str]:
    if not folder:
        return {}, "No record says where the images are; --images names their folder."
    path = Path(str(folder))
    try:
        return dict(list_images(path)), ""
    except PipelineError as error:
        return {}, f"The images are not where they were; --images names their folder. {error}"


def _label_maps(folder: Path) -> dict[str, Path]:
    return dict(list_label_maps(folder)) if folder.is_dir() else {}
