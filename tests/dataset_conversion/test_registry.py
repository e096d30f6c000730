import re
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from dataset_conversion.layout import Options
from dataset_conversion.registry import SOURCES, choose_source, describe_source
from moe_pipeline.errors import DatasetError

Write = Callable[..., Any]
PAGE = Path(__file__).parents[2] / "docs" / "convert.md"


def test_every_layout_and_its_options_are_on_the_page() -> None:
    table = PAGE.read_text(encoding="utf-8").split("| `--as`")[1].split("\n\n")[0]
    rows = [line for line in table.splitlines() if line.startswith("| `")]
    listed = {name: line for line in rows for name in re.findall(r"`(\w+)`", line.split("|")[1])}
    assert set(listed) == set(SOURCES)
    for name, source in SOURCES.items():
        assert set(re.findall(r"--(\w+)", listed[name])) == source.options
        assert source.options <= {field.name for field in fields(Options)}


def test_no_layout_sees_anything_in_an_empty_folder_or_among_text_files(tmp_path: Path) -> None:
    for name in ("a.txt", "x/b.json", "x/y/c.csv"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("{}")
    assert [name for name, source in SOURCES.items() if source.detect(tmp_path)] == []


def test_who_says_where_the_images_are_is_used(tmp_path: Path, write_volume: Write) -> None:
    for name in ("imaging", "segmentation"):
        write_volume(tmp_path / "case_00000" / f"{name}.nii.gz", 1)
    assert choose_source(tmp_path) == "kits"
    assert choose_source(tmp_path, by_template=True) == "pairs"
    assert choose_source(tmp_path, "bids") == "bids"
    assert choose_source(tmp_path, "bids", by_template=True) == "bids"


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("kits", Options(channels=("CT",)), r"kits takes no --channels; options it takes: --masks"),
        ("btcv", Options(images="a", masks="b"), r"btcv takes no --images or --masks; options it takes: none"),
    ],
)
def test_options_that_a_layout_does_not_take_are_refused(
    tmp_path: Path, name: str, options: Options, message: str
) -> None:
    with pytest.raises(DatasetError, match=message):
        describe_source(tmp_path, name, options)


@pytest.mark.parametrize("name", sorted(set(SOURCES) - {"nnunet_v1", "nnunet_v2", "msd"}))
def test_an_empty_folder_is_refused_by_each_layout(tmp_path: Path, name: str) -> None:
    with pytest.raises(DatasetError, match=str(tmp_path)):
        describe_source(tmp_path, name, Options())
