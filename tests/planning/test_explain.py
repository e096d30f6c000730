from collections.abc import Callable
from pathlib import Path

import pytest

from moe_pipeline.planning.explain import choice_rows, text_table
from moe_pipeline.planning.plan_dataset import PlannedFiles, plan_dataset
from moe_pipeline.records.planning import Plan


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory, make_phantom_dataset: Callable[..., Path]) -> PlannedFiles:
    root = tmp_path_factory.mktemp("explain")
    return plan_dataset(make_phantom_dataset(root / "Dataset001_P", 4), root / "plans")


def test_every_choice_has_a_row_with_value_and_reason(planned: PlannedFiles) -> None:
    rows = choice_rows(planned.plan, planned.proposed)
    no_choices = {"schema_version", "dataset", "dataset_sha256", "fingerprint_sha256", "reasons"}
    assert [row[0] for row in rows] == [field for field in Plan.model_fields if field not in no_choices]
    assert all(all(row) for row in rows)
    told = {row[0]: row for row in rows}
    assert told["view"][1] == f"{planned.plan.view.spacing_in_words}, 64 voxels, zscore_clipped"
    assert told["classes"][1] == "1 ball, 3 bar"
    assert not any("EDITED" in reason for _, _, reason in rows)


def test_an_edited_choice_says_what_was_planned(planned: PlannedFiles) -> None:
    edited = planned.plan.model_copy(update={"mirror_axes": ()})
    told = {row[0]: row for row in choice_rows(edited, planned.proposed)}
    assert told["mirror_axes"][1] == "none"
    assert told["mirror_axes"][2].startswith("EDITED; planned was R, A, S: all three")
    assert sum("EDITED" in row[2] for row in told.values()) == 1


def test_the_tables_name_classes_and_data(planned: PlannedFiles) -> None:
    text = planned.explain()
    ball = next(line.split() for line in text.splitlines() if line.startswith("1      ball"))
    assert ball[2] == "4"  # cases
    assert ball[-1] == "bar"  # a crop around the ball shows it too, in half of the cases
    assert "median along R, A, S" in text
    assert "foreground" in text


@pytest.mark.parametrize("width", [70, 100, 160])
def test_tables_keep_to_the_width(planned: PlannedFiles, width: int) -> None:
    choices = planned.explain(width).split("\n\n")[2]
    assert max(map(len, choices.splitlines())) <= width


def test_a_cell_that_is_too_long_wraps() -> None:
    assert text_table(("a", "b", "c"), [("1", "two", "three four five six seven eight")], 32).splitlines() == [
        "a  b    c",
        "-  ---  ------------------------",
        "1  two  three four five six",
        "        seven eight",
    ]
