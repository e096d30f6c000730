"""dice.csv keeps its types, its NaN and its infinities."""

from pathlib import Path

import pandas as pd
import pytest

from moe_pipeline.errors import RecordError
from moe_pipeline.evaluation.table import COLUMNS, n_failed, read_table, to_table, write_table
from moe_pipeline.records.evaluation import MetricRow

ROWS = [
    MetricRow(case="001", class_id=1, class_name="NA", dice=0.5, iou=1 / 3, hd95_mm=float("inf")),
    MetricRow(case="001", class_id=2, class_name="left, upper", status="absent", volume_reference_ml=0),
    MetricRow(case="002", status="failed", message='says "no"'),
]


def test_columns_are_those_users_were_promised() -> None:
    measures = "dice iou nsd hd95_mm volume_reference_ml volume_prediction_ml volumetric_similarity"
    assert list(COLUMNS) == ["case", "class_id", "class_name", *measures.split(), "status", "message"]


def test_round_trip(tmp_path: Path) -> None:
    table = to_table(ROWS)
    write_table(tmp_path / "out" / "dice.csv", table)
    pd.testing.assert_frame_equal(read_table(tmp_path / "out" / "dice.csv"), table, rtol=1e-7)


def test_an_empty_table_has_its_columns_and_types(tmp_path: Path) -> None:
    write_table(tmp_path / "dice.csv", to_table([]))
    back = read_table(tmp_path / "dice.csv")
    assert len(back) == 0
    assert back.dtypes.equals(to_table(ROWS).dtypes)


def test_writing_leaves_no_other_file(tmp_path: Path) -> None:
    write_table(tmp_path / "dice.csv", to_table(ROWS))
    assert [path.name for path in tmp_path.iterdir()] == ["dice.csv"]


def test_failed_cases_are_counted() -> None:
    assert n_failed(to_table(ROWS)) == 1


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("a,b\n1,2\n", "lacks the columns case"),
        ("", "not a table"),
        (",".join(COLUMNS) + "\nc,x" + "," * 9, "not a table"),
    ],
)
def test_foreign_tables_are_refused(tmp_path: Path, text: str, fault: str) -> None:
    (tmp_path / "dice.csv").write_text(text)
    with pytest.raises(RecordError, match=fault):
        read_table(tmp_path / "dice.csv")


def test_a_missing_table_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="moe evaluate"):
        read_table(tmp_path / "dice.csv")
