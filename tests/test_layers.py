"""The order of the packages: a package imports only from those before it."""

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ORDER = (
    "errors",
    "paths",
    "arguments",
    "files",
    "progress",
    "parallel",
    "charts",
    "web",
    "records",
    "journal",
    "workspace",
    "imaging",
    "datasets",
    "model",
    "presets",
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
CONVERSION_MAY_USE = {
    "errors",
    "paths",
    "files",
    "progress",
    "parallel",
    "records",
    "journal",
    "workspace",
    "imaging",
    "datasets",
}
MODEL_MAY_NOT_USE = {"numpy", "pathlib", "os", "SimpleITK", "safetensors"}
PARTS_OF_SAM = {"image_encoder", "prompt_encoder", "mask_decoder"}
BUILDS_FOUNDATIONS = "training/pretrain.py"  # from a preset's sizes, and may freeze its encoder


def modules(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


@cache
def imported(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return names


def packages(path: Path) -> set[str]:
    """First part below moe_pipeline of everything that a module imports from it."""
    return {name.split(".")[1] for name in imported(path) if name.startswith("moe_pipeline.")}


@pytest.mark.parametrize("path", modules("moe_pipeline"), ids=lambda path: str(path.relative_to(ROOT)))
def test_a_package_imports_only_from_those_before_it(path: Path) -> None:
    parts = path.relative_to(ROOT / "moe_pipeline").with_suffix("").parts
    if parts == ("__init__",):
        return
    own = ORDER.index(parts[0])
    later = {package for package in packages(path) if package in ORDER and ORDER.index(package) > own}
    unknown = {package for package in packages(path) if package not in ORDER}
    assert not later, f"{parts[0]} stands before {later}"
    assert not unknown


def test_the_public_api_is_lazy_and_nobody_inside_uses_it() -> None:
    tree = ast.parse((ROOT / "moe_pipeline" / "__init__.py").read_text(encoding="utf-8"))
    eager = [node for node in tree.body if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("moe_")]
    assert not eager
    users = [str(path) for path in modules("moe_pipeline") if "moe_pipeline" in imported(path)]
    assert not users


@pytest.mark.parametrize("package", sorted({path.parent for path in modules("moe_pipeline")}), ids=str)
def test_no_package_is_crowded(package: Path) -> None:
    own = [path for path in package.glob("*.py") if path.name != "__init__.py"]
    assert len(own) <= 15, sorted(path.name for path in own)


def test_no_class_name_stands_for_two_things() -> None:
    where: dict[str, list[str]] = {}
    for path in (*modules("moe_pipeline"), *modules("dataset_conversion")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef):
                where.setdefault(node.name, []).append(str(path.relative_to(ROOT)))
    assert not {name: paths for name, paths in where.items() if len(paths) > 1}


@pytest.mark.parametrize("path", modules("dataset_conversion"), ids=lambda path: path.name)
def test_conversion_stands_apart(path: Path) -> None:
    assert packages(path) <= CONVERSION_MAY_USE


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


@pytest.mark.parametrize("path", modules("moe_pipeline"), ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_outside_model_and_weights_knows_which_foundation_it_is(path: Path) -> None:
    package = path.relative_to(ROOT / "moe_pipeline").parts[0]
    if package in ("model", "weights") or str(path).endswith(BUILDS_FOUNDATIONS):
        return
    tree = ast.parse(path.read_text(encoding="utf-8"))
    parts = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)} & PARTS_OF_SAM
    assert not parts
    assert not {name for name in imported(path) if name.startswith("moe_pipeline.model.sam")}


def test_the_rule_is_not_blind(tmp_path: Path) -> None:
    module = tmp_path / "example.py"
    module.write_text("from moe_pipeline.cli import app\nimport moe_pipeline.training.loop\n")
    assert packages(module) == {"cli", "training"}


def test_presets_need_no_torch() -> None:
    code = "import sys, moe_pipeline.presets as p; p.load_preset('nano'); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("path", sorted((ROOT / "tests").rglob("test_*.py")), ids=lambda path: path.name)
def test_a_file_of_tests_has_some(path: Path) -> None:
    nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    assert any(isinstance(node, ast.FunctionDef) and node.name.startswith("test_") for node in nodes)
