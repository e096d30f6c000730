"""Every command and every block of Python in README.md and docs/*.md, as they are written there."""

import re
import shlex
import shutil
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any

import pytest
import typer

from moe_pipeline.cli import app, main
from moe_pipeline.model.foundation import Foundation
from moe_pipeline.records.foundation import View
from moe_pipeline.records.planning import Plan
from moe_pipeline.training.click_proposer.train import ClickProposerSettings
from moe_pipeline.weights.store import save_foundation
from moe_pipeline.workspace import Workspace

ROOT = Path(__file__).parents[2]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"`([^`\n]+)`")
LAUNCHER = re.compile(r"^(srun .*?\bmoe|torchrun .*? -m moe_pipeline) ")
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]*")


def blocks(page: Path, *languages: str) -> list[str]:
    return [text for language, text in BLOCK.findall(page.read_text(encoding="utf-8")) if language in languages]


def commands(page: Path) -> list[str]:
    lines = "\n".join(blocks(page, "bash", "console", "")).replace("\\\n", " ").splitlines()
    told = [LAUNCHER.sub("moe ", line.strip()) for line in lines]
    return [line for line in told if line.startswith("moe ")]


def words(line: str) -> list[str]:
    return shlex.split(line, comments=True)[1:]


@cache
def whole() -> Any:
    """The command line with all its commands."""
    return typer.main.get_command(app)


def find(arguments: list[str]) -> tuple[Any, list[str]]:
    """The command that is meant, and what is left for it."""
    command: Any = whole()
    rest = list(arguments)
    while hasattr(command, "commands"):
        command = command.commands[rest.pop(0)]
    return command, rest


def parse(line: str) -> None:
    """Raise if the command line would refuse it; run nothing."""
    command, rest = find(words(line))
    command.make_context("moe", rest)


def options(command: Any) -> Iterator[str]:
    for parameter in command.params:
        yield from (*parameter.opts, *parameter.secondary_opts)
    for below in getattr(command, "commands", {}).values():
        yield from options(below)


@pytest.mark.parametrize(
    ("page", "line"),
    [(page, line) for page in PAGES for line in commands(page)],
    ids=lambda value: value.name if isinstance(value, Path) else value,
)
def test_a_command_is_one_that_exists(page: Path, line: str) -> None:
    assert page.is_file()
    parse(line)


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("moe plan", "DATASET"),
        ("moe plan 4 --foundatoin nano", "foundatoin"),
        ("moe weights lost", "lost"),
        ("moe plan 4 --seed x", "integer"),
    ],
)
def test_a_wrong_command_is_noticed(line: str, fault: str) -> None:
    with pytest.raises(Exception) as noticed:  # noqa: PT011 - typer keeps the classes of its errors to itself
        parse(line)
    assert fault.lower() in f"{noticed.value} {getattr(noticed.value, 'param', '')}".lower()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_command_or_option_in_the_text_exists(page: Path) -> None:
    for code in CODE.findall(BLOCK.sub("", page.read_text(encoding="utf-8"))):
        if code.startswith("--"):
            assert set(OPTION.findall(code)) <= set(options(whole())), code
        elif code.startswith("moe "):
            name = code.split()[1]
            assert name in whole().commands or name == "COMMAND", code
            known = options(whole().commands.get(name, whole()))
            assert set(OPTION.findall(code)) <= {"--help", *known}, code


LOOSE = ["--risk", "0.9", "--confidence", "0.5"]
SHORT = {
    "plan": ["--foundation", "tiny"],
    "finetune": ["--epochs", "1"],
    "train-gate": ["--synthetic", "4", *LOOSE],
    "experts add": LOOSE,
}
"""What makes a command of the pages quick."""
LEFT_OUT = {
    "moe evaluate --matrix --unseen other_scans --clicks 1 --clicks 5": "long, as the one before it but for options",
    "moe evaluate --matrix --fail-on-regression 0.002": "the experts of three steps do lose something",
}


def run(line: str) -> None:
    arguments = words(line)
    quick = SHORT.get(arguments[0], SHORT.get(" ".join(arguments[:2]), []))
    with pytest.raises(SystemExit) as ended:
        main([*arguments, *quick])
    assert not ended.value.code, line
    if arguments[0] == "plan":
        for path in Path("moe_workspace/plans").glob("*/plan.json"):
            small = {"crops_per_case": 2, "copies_per_case": 1, "steps_per_epoch": 3, "batch_size": 2}
            Plan.load(path).model_copy(update=small).save(path)


@pytest.fixture(scope="module")
def folder(
    tmp_path_factory: pytest.TempPathFactory, small_foundation: Foundation, make_phantom_dataset: Callable[..., Path]
) -> Iterator[Path]:
    """A folder in which the commands of README.md have been run, on small phantoms and a tiny foundation."""
    work = tmp_path_factory.mktemp("work")
    view = View(spacing_mm=1.5, size_voxels=32, normalisation="zscore_clipped")
    weights = Workspace(work / "moe_workspace").weights
    save_foundation(small_foundation, weights, name="tiny", source="test", licence="none", preset="nano", view=view)
    source = make_phantom_dataset(work / "Task04_Hippocampus", n_cases=4)
    description = source / "dataset.json"
    description.write_text(description.read_text().replace("ball", "anterior").replace("bar", "posterior"))
    shutil.copytree(source / "labelsTr", work / "references")
    for image in (source / "imagesTr").glob("*.nii.gz"):
        target = work / "scans" / image.name.replace("_0000", "")
        target.parent.mkdir(exist_ok=True)
        shutil.copy(image, target)
    shutil.copy(work / "scans" / "p000.nii.gz", work / "scan.nii.gz")
    with pytest.MonkeyPatch.context() as patch:
        quick = partial(ClickProposerSettings, steps=4, search_crops=4, synthetic=1, cached_crops=8)
        patch.setattr("moe_pipeline.training.click_proposer.train.ClickProposerSettings", quick)
        patch.chdir(work)
        for line in commands(ROOT / "README.md"):
            run(line)
        run("moe prompts simulate --labels references -o prompts.json")
        run("moe prompts convert prompts.json --to mrk.json -o clicks --images scans")
        shutil.copy(work / "clicks" / "p000.mrk.json", work / "clicks.mrk.json")
        yield work


def test_the_commands_of_the_readme_work(folder: Path) -> None:
    assert {path.name for path in (folder / "out").glob("*.nii.gz")} == {f"p{k:03d}.nii.gz" for k in range(4)}
    assert (folder / "out" / "cases.csv").is_file()


@pytest.mark.parametrize("page", ["prompts", "predict"])
def test_the_commands_of_a_page_work(folder: Path, page: str) -> None:
    assert folder == Path.cwd()
    for line in commands(ROOT / "docs" / f"{page}.md"):
        if line not in LEFT_OUT:
            run(line)


def test_the_commands_on_models_work(folder: Path, make_phantom_dataset: Callable[..., Path]) -> None:
    for seed, name in enumerate(("Dataset007_Cord", "Dataset013_Tumour", "Dataset020_Rest"), start=1):
        run(f"moe plan {make_phantom_dataset(folder / name, n_cases=4, seed=seed)}")
        run(f"moe finetune {name} --no-click-proposer")
    for line in commands(ROOT / "docs" / "gate.md"):
        run(line)


def test_the_python_of_the_readme_works(folder: Path) -> None:
    assert folder == Path.cwd()
    shared: dict[str, Any] = {}
    for block in blocks(ROOT / "README.md", "python"):
        exec(compile(block, "README.md", "exec"), shared)


def test_every_page_with_python_is_run() -> None:
    pages = {page.name for page in PAGES if blocks(page, "python")}
    assert pages == {"README.md", "python.md"}  # the second by test_python_page.py
