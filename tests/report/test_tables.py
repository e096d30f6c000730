"""Tables, character by character."""

import math

import pandas as pd

from moe_pipeline.report.tables import as_markdown, as_text

TABLE = pd.DataFrame(
    {
        "dataset": ["CT", "brain MR"],
        "class_id": pd.array([1, pd.NA], dtype="Int64"),
        "dice": [0.98765, math.nan],
        "hd95_mm": [math.inf, 12.0],
    }
)


def test_text() -> None:
    assert as_text(TABLE, decimals=2).splitlines() == [
        "dataset   class_id  dice  hd95_mm",
        "--------  --------  ----  -------",
        "CT               1  0.99      inf",
        "brain MR         -     -    12.00",
    ]


def test_markdown() -> None:
    assert as_markdown(TABLE).splitlines() == [
        "| dataset  | class_id |  dice | hd95_mm |",
        "| -------- | -------: | ----: | ------: |",
        "| CT       |        1 | 0.988 |     inf |",
        "| brain MR |        - |     - |  12.000 |",
    ]


def test_words_that_would_break_a_table() -> None:
    table = pd.DataFrame({"message": ["two\nlines", "a | b"]})
    assert as_text(table).splitlines() == ["message", "---------", "two lines", "a | b"]
    assert as_markdown(table).splitlines()[2:] == ["| two lines |", "| a \\| b    |"]


def test_an_empty_table_shows_its_header() -> None:
    assert as_text(TABLE.iloc[:0]).splitlines()[0] == "dataset  class_id  dice  hd95_mm"
    assert as_text(pd.DataFrame()) == ""
    assert as_markdown(pd.DataFrame()) == ""
