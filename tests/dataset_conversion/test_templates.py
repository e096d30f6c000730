from pathlib import Path

import pytest

from dataset_conversion.templates import Template, all_files
from moe_pipeline.errors import DatasetError

ROOT = Path("data")


def fields(template: str, *paths: str) -> list[dict[str, str]]:
    return [match.fields for match in Template(template).matches([ROOT / path for path in paths], ROOT)]


def test_fields_stand_for_parts_of_names() -> None:
    assert fields("{case}_seg.nii.gz", "a_b_seg.nii.gz", "a.nii.gz", "x/a_seg.nii.gz") == [{"case": "a_b"}]
    assert fields("{patient}/{scan}_{channel}.nii", "p1/a_b_c.nii") == [
        {"patient": "p1", "scan": "a", "channel": "b_c"}
    ]
    assert fields("{case}/{case}.nii", "a/a.nii", "a/b.nii") == [{"case": "a"}]
    assert fields(r"{case:\d+}.nii", "12.nii", "1a.nii") == [{"case": "12"}]
    assert fields("{case}/{class}.nii", "s1/liver.nii") == [{"case": "s1", "class": "liver"}]


def test_stars_stand_for_anything_within_a_name_or_for_folders() -> None:
    assert fields("*/{case}.nii", "x/a.nii", "a.nii", "x/y/a.nii") == [{"case": "a"}]
    assert fields("**/{case}.nii", "x/a.nii", "b.nii", "x/y/c.nii") == [{"case": "a"}, {"case": "b"}, {"case": "c"}]
    assert fields("{case}*{:seg|mask}*.nii", "a_mask_1.nii", "a_roi.nii") == [{"case": "a"}]


def test_other_signs_mean_themselves() -> None:
    assert fields("a+(b).{case}", "a+(b).x", "aab.x") == [{"case": "x"}]


def test_case_ids_leave_out_channel_and_class() -> None:
    match = Template("{patient}/{visit}/{channel}.nii").matches([ROOT / "p1/v2/T1.nii"], ROOT)[0]
    assert (match.case_id, match.patient) == ("p1_v2", "p1")
    match = Template("ct.nii.gz").matches([ROOT / "ct.nii.gz"], ROOT)[0]
    assert (match.case_id, match.patient) == ("ct", None)


def test_a_broken_expression_is_named() -> None:
    with pytest.raises(DatasetError, match=r"'\{case:\(\}' is no template"):
        Template("{case:(}")


def test_hidden_files_are_not_seen(tmp_path: Path) -> None:
    for name in ("b.nii", ".hidden", "x/a.nii", ".git/a.nii"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert all_files(tmp_path) == [tmp_path / "b.nii", tmp_path / "x" / "a.nii"]
