"""Means, medians and intervals with known answers."""

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest

from moe_pipeline.evaluation.summary import ALL_CLASSES, summarise
from moe_pipeline.evaluation.table import to_table
from moe_pipeline.records.evaluation import MetricRow


def table_of(values: dict[tuple[str, int], float]) -> pd.DataFrame:
    rows = [MetricRow(case=case, class_id=k, class_name=f"class{k}", dice=dice) for (case, k), dice in values.items()]
    return to_table(rows)


def test_mean_and_median_of_each_class_and_of_all() -> None:
    table = table_of({("a", 1): 0.2, ("b", 1): 0.4, ("c", 1): 0.9, ("a", 2): 0.7, ("b", 2): math.nan})
    summary: Any = summarise(table).set_index("class_name")
    assert summary.loc["class1", ["n", "mean", "median"]].tolist() == pytest.approx([3, 0.5, 0.4])
    assert summary.loc["class2", ["n", "mean", "median"]].tolist() == pytest.approx([1, 0.7, 0.7])
    assert summary.loc[ALL_CLASSES, ["n", "mean"]].tolist() == pytest.approx([2, 0.6])


def test_interval_holds_the_mean_and_shrinks_with_more_patients() -> None:
    rng = np.random.default_rng(0)
    few = summarise(table_of({(f"p{i}", 1): rng.uniform() for i in range(10)})).iloc[0]
    many = summarise(table_of({(f"p{i}", 1): rng.uniform() for i in range(400)})).iloc[0]
    assert few["low"] < few["mean"] < few["high"]
    assert many["high"] - many["low"] == pytest.approx(2 * 1.96 * 12**-0.5 / 20, rel=0.15)
    assert many["high"] - many["low"] < few["high"] - few["low"]


def test_same_seed_same_interval() -> None:
    table = table_of({(f"p{i}", 1): i / 10 for i in range(10)})
    pd.testing.assert_frame_equal(summarise(table, seed=3), summarise(table, seed=3))
    assert not summarise(table, seed=3).equals(summarise(table, seed=4))


def test_scans_of_one_patient_are_one_witness() -> None:
    table = table_of({(f"case{i}", 1): float(i % 2) for i in range(20)})
    everybody_is_one = summarise(table, patients={f"case{i}": "p" for i in range(20)}).iloc[0]
    assert (everybody_is_one["low"], everybody_is_one["high"]) == (0.5, 0.5)
    assert summarise(table).iloc[0]["low"] < 0.5


def test_a_missed_class_makes_the_mean_distance_infinite_but_not_the_median() -> None:
    rows = [MetricRow(case=f"c{i}", class_id=1, hd95_mm=value) for i, value in enumerate([1.0, 2.0, math.inf])]
    summary = summarise(to_table(rows), metrics=("hd95_mm",)).iloc[0]
    assert (summary["mean"], summary["median"], summary["high"]) == (math.inf, 2, math.inf)
    assert summary["low"] < math.inf


def test_failed_cases_are_counted_and_not_averaged() -> None:
    table = pd.concat([table_of({("a", 1): 0.5}), to_table([MetricRow(case="b", status="failed", message="gone")])])
    row = summarise(table).iloc[0]
    assert (row["n"], row["mean"], row["n_failed"]) == (1, 0.5, 1)


def test_nothing_scored_is_an_empty_summary() -> None:
    assert len(summarise(to_table([MetricRow(case="b", status="failed")]))) == 0
