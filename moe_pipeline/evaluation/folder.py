"""A folder of predictions against a folder of references."""

import logging
from collections.abc import Callable, Collection, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from moe_pipeline.errors import DatasetError
from moe_pipeline.evaluation.case import case_metrics
from moe_pipeline.evaluation.metrics import USUAL
from moe_pipeline.evaluation.table import METRICS_CSV, to_table, write_table
from moe_pipeline.imaging.io.files import label_maps_in, read_label_map
from moe_pipeline.inference.batch.resume import FINISHED
from moe_pipeline.journal.case_errors import CaseError, error_file, guarded
from moe_pipeline.journal.written import Written, refuse_inputs
from moe_pipeline.paths import PredictionFolder
from moe_pipeline.progress import Progress, silent, track
from moe_pipeline.records.evaluation import MeasureRules, MetricRow
from moe_pipeline.records.run import RunRecord, library_versions

log = logging.getLogger(__name__)
_NO_REGIONS: Mapping[int, Collection[int]] = {}


def evaluate_folder(
    predictions: Path,
    references: Path,
    classes: Mapping[int, str],
    out: Path | None = None,
    *,
    cases: Collection[str] | None = None,
    rules: MeasureRules = USUAL,
    regions: Mapping[int, Collection[int]] = _NO_REGIONS,
    progress: Progress = silent,
) -> pd.DataFrame:
    """Score every case that has a reference.

    A case that cannot be scored is a row with status `failed` and its reason, and the others go on: a missing or
    unreadable prediction, an unreadable reference, two files of one name, two different grids. A prediction without a
    reference is a row with status `no_reference`, a label value outside the class map one with `unknown_label`.

    Args:
        predictions: folder of label maps, named like the references.
        references: folder of label maps.
        classes: name of each class; 0 is the background.
        out: folder for dice.csv, or None to write nothing.
        cases: the only cases to score, such as those of one fold; all by default.
        rules: how to measure.
        regions: label values that a class is made of, where that is not its id alone.
        progress: told after each case.

    Returns:
        The table of dice.csv: the columns of `MetricRow`, sorted by case and class.

    Raises:
        ImageError: if a folder is missing.
        PipelineError: if `out` is the folder of references, or holds a dice.csv that is not ours.
        DatasetError: if there is nothing to score, or `cases` names one without a reference.
    """
    own = None if out is None else Written(out / FINISHED)
    if own is not None:
        refuse_inputs(own.folder, [references])
        own.check([METRICS_CSV])
    found, given = label_maps_in(predictions), label_maps_in(references)
    predicted, expected = dict(found.files), dict(given.files)
    doubled = found.doubled | given.doubled
    wanted = _wanted({*expected, *given.doubled}, cases, references)
    unmatched = set(predicted) - {*expected, *doubled} if cases is None else set()
    rows: list[MetricRow] = []
    for case in track(sorted({*wanted, *unmatched}), "evaluating", progress):
        if case in doubled:
            rows.append(MetricRow(case=case, status="failed", message=doubled[case]))
        elif case in unmatched:
            reason = f"{predicted[case]}: no reference of this name in {references}"
            rows.append(MetricRow(case=case, status="no_reference", message=reason))
        elif case not in predicted:
            rows.append(MetricRow(case=case, status="failed", message=f"no prediction of this name in {predictions}"))
        else:
            score = partial(_score, predicted[case], expected[case], classes, case, rules, regions)
            rows += _case_rows(case, score, own)
    table = to_table(rows)
    if own is not None:
        with own.writing(METRICS_CSV) as temporary:
            write_table(temporary, table)
    return table


def record_evaluation(out: Path, predictions: Path, references: Path, seconds: float) -> None:
    """Write evaluation.json beside dice.csv: what was compared with what."""
    record = RunRecord(
        command="evaluate",
        versions=library_versions(),
        device="cpu",
        settings={"predictions": str(predictions.resolve()), "references": str(references.resolve())},
        seconds=round(seconds, 1),
        files=[METRICS_CSV],
    )
    Written(out / FINISHED).write_text(PredictionFolder.EVALUATION, record.as_text())


def _wanted(expected: Collection[str], cases: Collection[str] | None, references: Path) -> Collection[str]:
    missing = sorted(set(cases or ()) - set(expected))
    if missing:
        raise DatasetError(f"{references}: no reference for the cases {', '.join(missing)}")
    wanted = expected if cases is None else cases
    if not wanted:
        raise DatasetError(f"{references}: no label map to compare with; expected one per case")
    return wanted


def _score(prediction: Path, reference: Path, *how: Any) -> list[MetricRow]:
    return case_metrics(read_label_map(prediction), read_label_map(reference), *how)


def _case_rows(case: str, score: Callable[[], list[MetricRow]], own: Written | None) -> list[MetricRow]:
    rows = guarded(case, own, score)
    if isinstance(rows, CaseError):
        log.warning("not scored: %s", rows.message)
        return [MetricRow(case=case, status="failed", message=rows.message)]
    if own is not None:
        own.remove(error_file(case))
    return rows
