"""Many cases in a few numbers, with how sure we are of them."""

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from moe_pipeline.evaluation.table import n_failed

ALL_CLASSES = "all classes"
"""Name of the row that holds the mean over the classes; its class_id is empty."""

FloatArray: TypeAlias = NDArray[np.float64]
IndexArray: TypeAlias = NDArray[np.intp]

_COLUMNS = ("class_id", "class_name", "metric", "n", "mean", "median", "low", "high")
_Row: TypeAlias = tuple[int | None, str, str, int, float, float, float, float]
_INTERVAL_PERCENT = (2.5, 97.5)


def summarise(
    table: pd.DataFrame,
    metrics: Sequence[str] = ("dice",),
    patients: Mapping[str, str] | None = None,
    seed: int = 0,
    n_resamples: int = 1000,
) -> pd.DataFrame:
    """Mean, median and 95 % interval of each class, and of the mean over the classes.

    The interval is a percentile bootstrap over patients: whole patients are drawn with replacement, with all their
    cases and classes, so that two scans of one patient do not count as two witnesses. A class that is absent (NaN) does
    not enter. The infinite distance of a class that was missed altogether makes the mean infinite; the median tells
    more.

    Args:
        table: as `evaluate_folder` returns it.
        metrics: columns to summarise.
        patients: patient of each case; cases that are not listed are their own patient.
        seed: of the bootstrap.
        n_resamples: number of resamples.

    Returns:
        One row per class and metric: class_id, class_name, metric, n, mean, median, low, high, n_failed. n is the
        number of values behind the mean (of classes, in the row of all classes), n_failed the number of cases that
        could not be scored at all.
    """
    scored = table[table["status"] == "ok"]
    classes = scored[["class_id", "class_name"]].drop_duplicates("class_id").sort_values("class_id")
    owner = scored["case"].map(lambda case: (patients or {}).get(case, case))
    index = (pd.factorize(owner)[0], classes["class_id"].searchsorted(scored["class_id"]))
    shape = (owner.nunique(), len(classes))
    drawn = np.random.default_rng(seed).integers(0, max(shape[0], 1), (n_resamples, shape[0]))  # (B, P)
    rows: list[_Row] = []
    for metric in metrics:
        values = scored[metric].to_numpy(dtype=np.float64)
        resampled = _resampled_means(values, index, shape, drawn)  # (B, C)
        per_class = [values[(index[1] == column) & ~np.isnan(values)] for column in range(shape[1])]
        for column, (class_id, name) in enumerate(classes.itertuples(index=False)):
            rows.append(_row(class_id, name, metric, per_class[column], resampled[:, column]))
        if shape[1] > 1:
            means = np.array([known.mean() for known in per_class if known.size])
            rows.append(_row(None, ALL_CLASSES, metric, means, _row_means(resampled)))
    summary = pd.DataFrame(rows, columns=list(_COLUMNS)).astype({"class_id": "Int64"})
    return summary.assign(n_failed=n_failed(table))


def _resampled_means(
    values: FloatArray, index: tuple[IndexArray, IndexArray], shape: tuple[int, int], drawn: IndexArray
) -> FloatArray:
    """Mean of each class in each resample, (B, C); NaN where the class was not drawn.

    Args:
        values: one metric, (N,).
        index: patient and class of each value, (N,) each.
        shape: number of patients and of classes, P and C.
        drawn: patients in each resample, (B, P).
    """
    sums, counts = np.zeros(shape), np.zeros(shape)
    known = ~np.isnan(values)
    where = (index[0][known], index[1][known])
    np.add.at(sums, where, values[known])
    np.add.at(counts, where, 1)
    with np.errstate(invalid="ignore"):
        means = [sums[chosen].sum(axis=0) / counts[chosen].sum(axis=0) for chosen in drawn]
    return np.asarray(means).reshape(len(drawn), shape[1])


def _row_means(values: FloatArray) -> FloatArray:
    """Mean of each row over its known columns, (B, C) -> (B,)."""
    known = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(known, values, 0).sum(axis=1) / known.sum(axis=1), dtype=np.float64)


def _row(class_id: int | None, name: str, metric: str, known: FloatArray, resampled: FloatArray) -> _Row:
    resampled = resampled[~np.isnan(resampled)]
    if known.size == 0 or resampled.size == 0:
        return class_id, name, metric, known.size, *(float("nan"),) * 4
    low, high = np.percentile(resampled, _INTERVAL_PERCENT, method="nearest")  # interpolation fails between infinities
    return class_id, name, metric, known.size, float(known.mean()), float(np.median(known)), float(low), float(high)
