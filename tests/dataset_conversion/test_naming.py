from pathlib import Path

import pytest

from dataset_conversion.naming import suggest_name
from moe_pipeline.errors import DatasetError


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("Task04_Hippocampus", "Dataset004_Hippocampus"),
        ("Task501_My Data (new)", "Dataset501_MyDatanew"),
        ("Dataset007_Pancreas", "Dataset007_Pancreas"),
        ("dataset7_x", "Dataset007_x"),
    ],
)
def test_names_keep_their_number(source: str, name: str) -> None:
    assert suggest_name(Path("somewhere") / source) == name


@pytest.mark.parametrize("source", ["amos22", "Task04_", "Task_x"])
def test_without_a_number_the_user_must_choose(source: str) -> None:
    with pytest.raises(DatasetError, match="its name has no number; choose one"):
        suggest_name(Path(source))
