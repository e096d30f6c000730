"""The house's order: a package imports only from those before it."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ORDER = (
    "errors",
    "files",
    "progress",
    "parallel",
    "charts",
    "records",
    "presets",
    "workspace",
    "imaging",
    "datasets",
    "model",
    "weights",
    "planning",
    "embeddings",
    "synthetic",
    "prompts",
    "mixture",
    "training",
    "inference",
    "evaluation",
    "report",
    "server",
    "cluster",
    "commands",
    "cli",
    "__main__",
)
CONVERSION_MAY_USE = {"errors", "files", "progress", "parallel", "records", "workspace", "imaging", "datasets"}
MODEL_MAY_NOT_USE = {"numpy", "pathlib", "os", "SimpleITK", "safetensors"}


def modules(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def imported(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return names


def rooms(path: Path) -> set[str]:
    """First part below moe_pipeline of everything that a module imports from it."""
    return {name.split(".")[1] for name in imported(path) if name.startswith("moe_pipeline.")}


@pytest.mark.parametrize("path", modules("moe_pipeline"), ids=lambda path: str(path.relative_to(ROOT)))
def test_a_package_imports_only_from_those_before_it(path: Path) -> None:
    parts = path.relative_to(ROOT / "moe_pipeline").with_suffix("").parts
    if parts == ("__init__",):
        return
    own = ORDER.index(parts[0])
    later = {room for room in rooms(path) if room in ORDER and ORDER.index(room) > own}
    unknown = {room for room in rooms(path) if room not in ORDER}
    assert not later, f"{parts[0]} stands before {later}"
    assert not unknown


@pytest.mark.parametrize("path", modules("dataset_conversion"), ids=lambda path: path.name)
def test_conversion_stands_apart(path: Path) -> None:
    assert rooms(path) <= CONVERSION_MAY_USE


def test_only_the_command_line_and_the_demo_convert() -> None:
    users = {
        path.relative_to(ROOT / "moe_pipeline").with_suffix("").parts[0]
        for path in modules("moe_pipeline")
        if any(name.split(".")[0] == "dataset_conversion" for name in imported(path))
    }
    assert users <= {"cli", "commands"}


@pytest.mark.parametrize("path", modules("moe_pipeline/model"), ids=lambda path: path.name)
def test_the_model_is_pure_torch(path: Path) -> None:
    assert not {name.split(".")[0] for name in imported(path)} & MODEL_MAY_NOT_USE


def test_the_rule_is_not_blind(tmp_path: Path) -> None:
    module = tmp_path / "example.py"
    module.write_text("from moe_pipeline.cli import app\nimport moe_pipeline.training.loop\n")
    assert rooms(module) == {"cli", "training"}
