"""What goes into a wheel, and that every page of the project is named alike."""

import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
PYPROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
HOME = "https://github.com/moe-pipeline/moe"


@pytest.mark.parametrize("package", ["moe_pipeline", "dataset_conversion", "plans"])
def test_every_file_of_a_package_is_part_of_the_wheel(package: str) -> None:
    data = PYPROJECT["tool"]["setuptools"]["package-data"]
    listed = {
        path
        for name, patterns in data.items()
        for one in patterns
        for path in (ROOT / name.replace(".", "/")).glob(one)
    }
    there = {path for path in (ROOT / package).rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    assert not {path for path in there if path.suffix != ".py"} - listed


@pytest.mark.parametrize("name", ["moe_pipeline", "dataset_conversion"])
def test_a_package_says_that_it_is_typed(name: str) -> None:
    assert (ROOT / name / "py.typed").is_file()


def test_the_project_has_one_address_and_one_version() -> None:
    assert PYPROJECT["project"]["urls"]["Source"] == HOME
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"repository-code: {HOME}\n" in citation
    assert f"\nversion: {PYPROJECT['project']['version']}\n" in citation
    assert f"repo_url: {HOME}\n" in (ROOT / "mkdocs.yml").read_text(encoding="utf-8")


def test_each_target_of_make_is_explained() -> None:
    lines = (ROOT / "Makefile").read_text(encoding="utf-8").splitlines()
    (phony,) = [line for line in lines if line.startswith(".PHONY:")]
    explained = {line.partition(":")[0] for line in lines if "##" in line and line[0].isalpha()}
    assert explained == set(phony.split()[1:])
