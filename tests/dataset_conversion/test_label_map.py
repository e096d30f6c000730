import json
from pathlib import Path
from typing import Any

import pytest

from dataset_conversion.label_map import LabelMap, apply
from dataset_conversion.layout import SourceDataset
from moe_pipeline.errors import DatasetError, RecordError

SOURCE = SourceDataset(("CT",), {"background": 0, "liver": 1, "left": 2, "right": 3, "tumour": 6}, ())
NAMELESS = SourceDataset(("CT",), None, ())


def made(dataset: SourceDataset = SOURCE, **classes: Any) -> SourceDataset:
    return apply(LabelMap.model_validate(classes), dataset)


def test_classes_are_renamed_merged_and_numbered_in_order() -> None:
    dataset = made(kidneys=["left", "right"], Leber=1, background=[6])
    assert dataset.labels == {"background": 0, "kidneys": 1, "Leber": 2}
    assert dataset.value_map == {0: 0, 1: 2, 2: 1, 3: 1, 6: 0}


def test_the_rest_goes_where_the_star_is() -> None:
    assert made(liver="liver", background="*").value_map == {0: 0, 1: 1, 2: 0, 3: 0, 6: 0}
    assert made(liver="liver", other=["*"]).value_map == {0: 0, 1: 1, 2: 2, 3: 2, 6: 2}


def test_values_of_ones_own_are_kept_and_ignore_is_refused() -> None:
    dataset = made(c=6, a=2, b={"value": 1, "from": [1, 3]})
    assert dataset.labels == {"background": 0, "c": 2, "a": 3, "b": 1}
    assert dataset.value_map == {0: 0, 1: 1, 2: 3, 3: 1, 6: 2}
    with pytest.raises(DatasetError, match="is not supported; choose another name"):
        made(ignore=6, a=2)


def test_a_source_that_names_nothing_is_mapped_by_value() -> None:
    assert made(NAMELESS, cord=[1, 7]).value_map == {0: 0, 1: 1, 7: 1}
    with pytest.raises(DatasetError, match="cord: the source has no 'cord' by name"):
        made(NAMELESS, cord="cord")
    with pytest.raises(DatasetError, match="needs a source that says which values it has"):
        made(NAMELESS, cord="*")


def test_all_faults_are_listed_at_once() -> None:
    with pytest.raises(DatasetError) as caught:
        made(a=["liver", 9], b="liver", c="spleen")
    message = str(caught.value)
    assert "4 faults" in message
    assert "a: the source has no 9; it has background (0), liver (1), left (2), right (3), tumour (6)" in message
    assert "b: 'liver' already went to another class" in message
    assert "c: the source has no 'spleen'" in message
    assert "nothing is said about left (2), right (3), tumour (6)" in message
    with pytest.raises(DatasetError, match="a, b share a value"):
        made(a={"value": 1, "from": 1}, b={"value": 1, "from": 2})


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ('{"a": 1', "not JSON: line 1, column 8"),
        ("[1]", "not a label map: file"),
        ('{"a": {"value": -1, "from": 1}}', "not a label map: a"),
        ('{"a": 1.5}', "not a label map: a"),
    ],
)
def test_files_that_are_no_map_are_refused(tmp_path: Path, text: str, fault: str) -> None:
    path = tmp_path / "map.json"
    path.write_text(text)
    with pytest.raises(RecordError, match=fault):
        LabelMap.load(path)


def test_maps_are_read_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "map.json"
    path.write_text(json.dumps({"a": [1, "b"], "c": {"value": 4, "from": "d"}}))
    assert list(LabelMap.load(path).origins()) == [("a", 1), ("a", "b"), ("c", "d")]
    with pytest.raises(RecordError, match="no such file; expected a label map"):
        LabelMap.load(tmp_path / "none.json")
