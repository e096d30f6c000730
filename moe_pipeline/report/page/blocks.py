"""What a page consists of. The template shows each kind of block; nothing here knows HTML."""

import math
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

UNKNOWN = "-"
"""Stands for a value that does not exist."""

Tone = Literal["", "good", "warn", "bad"]


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell of a table."""

    text: str
    """As shown."""
    order: float | str | None = None
    """What to sort by; the text if None."""
    shade: int | None = None
    """0 to 10: how strong the colour behind it is; none if None."""
    scale: Literal["good", "loss"] = "good"
    """Of the shade: more is better, or more is worse."""
    tone: Tone = ""
    """How the text is marked."""
    swatch: int | None = None
    """Label value whose colour stands before the text."""

    @classmethod
    def number(cls, value: float | None, decimals: int = 3, suffix: str = "") -> "Cell":
        """A number with its decimals; a dash where there is none."""
        if value is None or math.isnan(value):
            return cls(UNKNOWN, -math.inf)
        if math.isinf(value):
            return cls("∞", value)
        return cls(f"{value:.{decimals}f}{suffix}", value)

    @classmethod
    def whole(cls, value: int) -> "Cell":
        """A whole number."""
        return cls(str(value), value)


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table."""

    name: str
    """In the header."""
    numeric: bool = False
    """Numbers stand to the right."""
    note: str = ""
    """Shown when the pointer rests on the header."""


@dataclass(frozen=True, slots=True)
class Table:
    """Rows under named columns; every column can be sorted by."""

    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    caption: str = ""
    """Stands above."""
    sortable: bool = True


@dataclass(frozen=True, slots=True)
class Drawing:
    """A chart."""

    svg: str
    """Of `page.svg.as_svg`."""
    title: str
    """Stands above it."""
    note: str = ""
    """Stands below it: how to read it."""


@dataclass(frozen=True, slots=True)
class Prose:
    """A paragraph."""

    text: str
    tone: Tone = ""


@dataclass(frozen=True, slots=True)
class Figures:
    """A few numbers that say most."""

    items: tuple[tuple[str, str, str], ...]
    """Value, what it is, and a remark."""


@dataclass(frozen=True, slots=True)
class Beside:
    """Blocks beside each other where there is room."""

    blocks: tuple["Block", ...]


@dataclass(frozen=True, slots=True)
class Folded:
    """Blocks that are shown on demand."""

    title: str
    blocks: tuple["Block", ...]


@dataclass(frozen=True, slots=True)
class ShownObject:
    """One object of a case, as the viewer's table tells it."""

    class_id: int
    """Label value; 0 where the row is of the case as a whole."""
    cells: tuple[Cell, ...]
    """Under `Viewer.columns`."""


@dataclass(frozen=True, slots=True)
class ShownCase:
    """One case of the viewer."""

    name: str
    """As shown."""
    objects: tuple[ShownObject, ...]
    """Rows of its table."""
    scan: str = ""
    """JSON for the viewer's script: where the volumes are, window, clicks; empty where there is nothing to see."""
    volumes: tuple[tuple[str, str], ...] = ()
    """Name of an element and the base64 of a NIfTI file in it."""
    still: str = ""
    """A picture as data: address; empty if there is none."""
    remark: str = ""
    """What the copy leaves out, or why there is none."""


@dataclass(frozen=True, slots=True)
class Viewer:
    """The table of cases, and the chosen one in planes and 3D."""

    table: Table
    """One row per case of the run, the first column its name."""
    cases: dict[str, ShownCase]
    """By the text of the first column, those that can be chosen."""
    columns: tuple[Column, ...]
    """Of the table of objects."""
    classes: dict[int, str]
    """Names by label value, for the legend."""
    has_reference: bool
    """Whether there is anything to compare with."""


Block: TypeAlias = Table | Drawing | Prose | Figures | Beside | Folded | Viewer


@dataclass(frozen=True, slots=True)
class PageSection:
    """A heading and what stands below it."""

    title: str
    blocks: tuple[Block, ...]
    lead: str = ""
    """What is to be seen, in a sentence."""


@dataclass(frozen=True, slots=True)
class Page:
    """A whole report."""

    title: str
    """What it is of."""
    kind: str
    """What kind of run, in a word."""
    lead: str
    """What came out, in a sentence or two."""
    sections: tuple[PageSection, ...]
    facts: tuple[tuple[str, str], ...] = field(default=())
    """Name and value of what stands in the footer: version, model, settings."""
