import json
from pathlib import Path

import pytest

from moe_pipeline.errors import RecordError
from moe_pipeline.records.prompts import PromptFile, prompt_schema

PUBLISHED = Path(__file__).parents[2] / "docs" / "prompts.schema.json"


def test_the_published_schema_is_the_record() -> None:
    assert json.loads(PUBLISHED.read_text()) == prompt_schema(), (
        "write it anew: python -c 'import json; from moe_pipeline.records.prompts import prompt_schema; "
        "print(json.dumps(prompt_schema(), indent=2))' > docs/prompts.schema.json"
    )


def test_every_field_is_explained() -> None:
    schema = json.loads(PUBLISHED.read_text())
    for part in (schema, schema["$defs"]["ObjectPrompt"]):
        unexplained = {name for name, field in part["properties"].items() if "description" not in field}
        assert unexplained <= {"schema_version"}


def test_a_box_needs_no_click_inside(tmp_path: Path) -> None:
    head = '{"space": "voxel_xyz", "cases": {"a": [{"class_id": 1, '
    (tmp_path / "a.json").write_text(head + '"box": [[0, 0, 0], [3, 4, 5]]}]}}')
    assert PromptFile.load(tmp_path / "a.json").cases["a"][0].box == ((0, 0, 0), (3, 4, 5))
    (tmp_path / "a.json").write_text(head + '"box": [[0, 0, 0]]}]}}')
    with pytest.raises(RecordError, match=r"a\.json: .*box"):
        PromptFile.load(tmp_path / "a.json")
    (tmp_path / "a.json").write_text(head + '"points": [], "labels": []}]}}')
    with pytest.raises(RecordError, match="or give a box"):
        PromptFile.load(tmp_path / "a.json")
