"""The matrix of two small datasets, worked out by hand."""

import math

import pandas as pd
import pytest

from moe_pipeline.evaluation.forgetting.matrix import check_regression, forgetting_matrix, forgotten
from moe_pipeline.evaluation.table import to_table
from moe_pipeline.records.evaluation import MetricRow

NAMES = {1: "liver", 2: "spleen"}


def table_of(*scores: tuple[str, int, float]) -> pd.DataFrame:
    return to_table([MetricRow(case=case, class_id=k, class_name=NAMES[k], dice=dice) for case, k, dice in scores])


def two_datasets() -> dict[str, dict[str, pd.DataFrame]]:
    return {
        "moe": {
            "CT": table_of(("a", 1, 0.8), ("b", 1, 0.6), ("a", 2, 0.5)),
            "MR": table_of(("m", 1, 0.4)),
        },
        "general": {
            "CT": table_of(("a", 1, 0.4), ("b", 1, 0.6), ("a", 2, 0.3)),
            "MR": table_of(("m", 1, 0.5)),
        },
        "CT": {
            "CT": table_of(("a", 1, 0.9), ("b", 1, 0.5), ("a", 2, 0.5)),
            "MR": table_of(("m", 1, 0.1)),
        },
    }


def cell(matrix: pd.DataFrame, dataset: str, class_name: str, model: str) -> float:
    row = matrix[(matrix["dataset"] == dataset) & (matrix["class_name"] == class_name)]
    assert len(row) == 1
    return float(row[model].iloc[0])


def test_cells_and_order() -> None:
    matrix = forgetting_matrix(two_datasets())
    assert list(matrix.columns) == [
        "dataset",
        "class_id",
        "class_name",
        "n",
        "n_left_out",
        "general",
        "CT",
        "moe",
        "best",
    ]
    assert list(matrix["class_name"]) == ["liver", "spleen", "mean", "liver", "mean"]
    assert cell(matrix, "CT", "liver", "general") == pytest.approx(0.5)
    assert cell(matrix, "CT", "liver", "moe") == pytest.approx(0.7)
    assert cell(matrix, "CT", "mean", "moe") == pytest.approx((0.7 + 0.5) / 2)
    assert cell(matrix, "CT", "liver", "n") == 2
    assert cell(matrix, "CT", "mean", "n") == 3
    assert matrix["class_id"].isna().tolist() == [False, False, True, False, True]


def test_best_is_chosen_for_each_object_between_general_and_experts() -> None:
    matrix = forgetting_matrix(two_datasets())
    assert cell(matrix, "CT", "liver", "best") == pytest.approx((0.9 + 0.6) / 2)
    assert cell(matrix, "MR", "liver", "best") == pytest.approx(0.5)


def test_models_are_compared_on_the_same_objects() -> None:
    tables = two_datasets()
    failed = to_table([MetricRow(case="b", status="failed", message="damaged")])
    tables["moe"]["CT"] = pd.concat([table_of(("a", 1, 0.8), ("a", 2, math.nan)), failed], ignore_index=True)
    matrix = forgetting_matrix(tables)
    assert cell(matrix, "CT", "liver", "general") == pytest.approx(0.4)
    assert (cell(matrix, "CT", "liver", "n"), cell(matrix, "CT", "liver", "n_left_out")) == (1, 1)
    assert (cell(matrix, "CT", "spleen", "n"), cell(matrix, "CT", "spleen", "n_left_out")) == (0, 1)
    assert math.isnan(cell(matrix, "CT", "spleen", "moe"))


def test_a_model_need_not_have_seen_every_dataset() -> None:
    tables = two_datasets() | {"sft": {"CT": two_datasets()["CT"]["CT"]}}
    matrix = forgetting_matrix(tables)
    assert list(matrix.columns[5:]) == ["general", "CT", "sft", "moe", "best"]
    assert math.isnan(cell(matrix, "MR", "liver", "sft"))
    assert cell(matrix, "MR", "liver", "general") == 0.5


def test_a_dataset_on_which_everything_failed_keeps_its_row() -> None:
    failed = to_table([MetricRow(case="m", status="failed")])
    matrix = forgetting_matrix({"general": {"MR": failed}, "moe": {"MR": failed}})
    assert matrix["class_name"].tolist() == ["mean"]
    assert cell(matrix, "MR", "mean", "n") == 0


def test_forgotten_looks_at_what_was_not_finetuned() -> None:
    matrix = forgetting_matrix(two_datasets())
    found = forgotten(matrix, {"CT"})
    assert (found.n_classes, found.largest_drop_at) == (1, "MR liver")
    assert (found.largest_drop, found.mean_drop) == pytest.approx((0.1, 0.1))
    assert forgotten(matrix, {"CT"}, model="CT").largest_drop == pytest.approx(0.4)
    everywhere = forgotten(matrix, set())
    assert everywhere.mean_drop == pytest.approx((0.5 - 0.7 + 0.3 - 0.5 + 0.1) / 3)


def test_nothing_to_forget() -> None:
    found = forgotten(forgetting_matrix(two_datasets()), {"CT", "MR"})
    assert found.n_classes == 0
    assert math.isnan(found.largest_drop)


def test_regressions_are_named_with_their_numbers() -> None:
    matrix = forgetting_matrix(two_datasets())
    assert check_regression(matrix, limit=0.2) == []
    (fault,) = check_regression(matrix, limit=0.05)
    assert fault == "MR liver: moe 0.4000 against general 0.5000, a drop of 0.1000 over 1 objects (limit 0.05)"


def test_what_cannot_be_compared_is_no_success() -> None:
    tables = two_datasets()
    tables["moe"]["MR"] = to_table([MetricRow(case="m", status="failed", message="damaged")])
    assert check_regression(forgetting_matrix(tables), limit=1) == [
        "MR liver: moe and general have no object in common",
        "MR mean: moe and general have no object in common",
    ]


def test_a_matrix_without_the_mixture_cannot_be_checked() -> None:
    tables = two_datasets()
    del tables["moe"]
    with pytest.raises(ValueError, match=r"lacks the columns \['moe'\]"):
        check_regression(forgetting_matrix(tables), limit=0.1)
    with pytest.raises(ValueError, match="limit must be 0 or more"):
        check_regression(forgetting_matrix(two_datasets()), limit=-0.1)


def test_no_model_may_be_called_best() -> None:
    with pytest.raises(ValueError, match="none of them called 'best'"):
        forgetting_matrix({"best": {}})


def test_sft_stands_behind_the_experts_and_is_no_choice() -> None:
    tables = two_datasets()
    tables["sft of CT"] = {"CT": table_of(("a", 1, 1.0), ("b", 1, 1.0), ("a", 2, 1.0))}
    tables["general in expert's view"] = {"CT": table_of(("a", 1, 1.0), ("b", 1, 1.0), ("a", 2, 1.0))}
    matrix = forgetting_matrix(tables)
    models = ["general", "general in expert's view", "CT", "sft of CT", "moe", "best"]
    assert list(matrix.columns)[5:] == models
    assert cell(matrix, "CT", "liver", "best") == pytest.approx((0.9 + 0.6) / 2)
    assert math.isnan(cell(matrix, "MR", "liver", "sft of CT"))
