"""How the pages are written: lines that a terminal shows whole, links that lead somewhere, and the words of today."""

import io
import pkgutil
import re
import tokenize
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [*(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")), *sorted(DOCS.glob("*.md"))]
NOTEBOOKS = sorted((DOCS / "experiments").glob("*.md"))
SOURCES = [
    path for package in ("moe_pipeline", "dataset_conversion") for path in sorted((ROOT / package).rglob("*.py"))
]
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")

PATH = re.compile(r"`((?:moe_pipeline|dataset_conversion|plans|tests|docs|benchmarks)[/\w.]*)`")
EXAMPLES = {"moe_pipeline/a/b.py", "tests/a/test_b.py"}

OLD_WORDS = (
    r"speakers?|conversed?|conversations?|dialogues?|heard",
    r"lattices?|canvas|tapers?",
    r"strangers?|strangeness|guards?|unguarded",
    r"newcomers?",
    r"prompters?|searchers?|robots?",
    r"silent channels?|wakens?|wakened",
    r"likeness|cell networks?|detail_chans",
    r"choosers?",
    r"mending|straightens?",
    r"no-elsewhere|clicks elsewhere",
)
"""What earlier code called things that have another name now: docs/method.md has those of today."""

ALLOWED = {"moe_pipeline/synthetic/shapes.py": "taper", "moe_pipeline/journal/case_errors.py": "guard"}
"""Plain English in one place: a tube that tapers, a call that is guarded."""


def old_words(text: str, allowed: str = "") -> list[str]:
    """Old words of a text, with what stands around them."""
    return [
        text[max(0, found.start() - 30) : found.end() + 30]
        for word in OLD_WORDS
        for found in re.finditer(rf"\b(?:{word})\b", text, re.IGNORECASE)
        if found[0] != allowed
    ]


def names(path: Path) -> str:
    """Identifiers of a module, their parts apart: `SomeName` and `some_name` alike as `some name`."""
    tokens = tokenize.generate_tokens(io.StringIO(path.read_text(encoding="utf-8")).readline)
    found = {token.string for token in tokens if token.type == tokenize.NAME}
    return "\n".join(sorted(re.sub(r"(?<=[a-z])(?=[A-Z])|_+", " ", name) for name in found))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_line_fits_a_terminal(page: Path) -> None:
    lines = enumerate(page.read_text(encoding="utf-8").splitlines(), start=1)
    assert not [(number, line) for number, line in lines if len(line) > 120 and not line.startswith("|")]


@pytest.mark.parametrize("page", [*PAGES, *NOTEBOOKS], ids=lambda page: page.name)
def test_a_link_leads_somewhere(page: Path) -> None:
    targets = LINK.findall(page.read_text(encoding="utf-8"))
    assert not [target for target in targets if "://" not in target and not (page.parent / target).exists()]


def test_a_name_of_the_reference_exists() -> None:
    listed = re.findall(r"^::: (\S+)$", (DOCS / "python.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert listed
    assert not [name for name in listed if pkgutil.resolve_name(name).__doc__ is None]


def test_a_file_that_contributors_are_sent_to_exists() -> None:
    named = PATH.findall((ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"))
    assert len(named) > 10
    assert not [path for path in named if not (ROOT / path).exists() and path not in EXAMPLES]


@pytest.mark.parametrize("path", [*PAGES, *NOTEBOOKS, *SOURCES], ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_old_word_is_left(path: Path) -> None:
    allowed = ALLOWED.get(path.relative_to(ROOT).as_posix(), "")
    assert not old_words(path.read_text(encoding="utf-8"), allowed)
    if path.suffix == ".py":
        assert not old_words(names(path), allowed)


@pytest.mark.parametrize("text", ["the Guard of an expert", "dialogues of five clicks", "class Speaker:"])
def test_an_old_word_is_noticed(text: str) -> None:
    assert old_words(text)
    assert not old_words("safeguards regardless of latticework")


def test_a_name_is_taken_apart(tmp_path: Path) -> None:
    module = tmp_path / "module.py"
    module.write_text("class SilentGuard:\n    the_robot = 1\n")
    assert len(old_words(names(module))) == 2
