"""dice.csv in memory and on disk."""

import logging
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from moe_pipeline.errors import RecordError
from moe_pipeline.files import csv_text, write_text
from moe_pipeline.paths import PredictionFolder
from moe_pipeline.records.evaluation import MetricRow

log = logging.getLogger(__name__)

METRICS_CSV = PredictionFolder.METRICS
COLUMNS = tuple(MetricRow.model_fields)
TEXT_COLUMNS = ("case", "class_name", "status", "message")

_SIGNIFICANT_DIGITS = 8


def to_table(rows: Iterable[MetricRow]) -> pd.DataFrame:
    """One row per record, the columns in the order of `MetricRow`."""
    return _typed(pd.DataFrame([row.model_dump() for row in rows], columns=list(COLUMNS)))


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Write a CSV as a whole. NaN becomes an empty cell; numbers keep eight digits."""
    cells = table.astype(object).where(table.notna(), None).itertuples(index=False)
    rows = (dict(zip(table.columns, row, strict=True)) for row in cells)
    write_text(path, csv_text(list(table.columns), rows, _SIGNIFICANT_DIGITS))


def read_table(path: Path) -> pd.DataFrame:
    """Read a dice.csv back with the types it was written with.

    Raises:
        RecordError: if the file is missing, no CSV, or lacks a column.
    """
    if not path.is_file():
        raise RecordError(f"{path}: no such table; run `moe evaluate` or `moe predict` first")
    try:
        table = pd.read_csv(path, dtype=dict.fromkeys(TEXT_COLUMNS, "str"), keep_default_na=False, na_values=[""])
        missing = [name for name in COLUMNS if name not in table.columns]
        if missing:
            raise RecordError(f"{path}: lacks the columns {', '.join(missing)}; expected {', '.join(COLUMNS)}")
        return _typed(table)
    except (ValueError, TypeError) as error:
        raise RecordError(f"{path}: not a table of metrics: {error}") from error


def n_failed(table: pd.DataFrame) -> int:
    """Cases that could not be scored."""
    return int((table["status"] == "failed").sum())


def _typed(table: pd.DataFrame) -> pd.DataFrame:
    numbers = [name for name in COLUMNS if name not in TEXT_COLUMNS and name != "class_id"]
    typed = table.copy()
    typed[numbers] = typed[numbers].astype("float64")
    typed["class_id"] = typed["class_id"].astype("Int64")
    for name in TEXT_COLUMNS:
        typed[name] = typed[name].fillna("").astype("str")
    return typed
