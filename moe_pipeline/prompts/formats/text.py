"""Text, tables and JSON as other programs write them: what cannot be understood in one way only is refused."""

import codecs
import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from moe_pipeline.errors import PromptError, RecordError
from moe_pipeline.records.base import read_json

_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a table.

    Attributes:
        where: file and row, for messages.
        cells: by lower-case name of the column.
    """

    where: str
    cells: dict[str, str]


def text_of(path: Path) -> str:
    """A text file in UTF-8 or, with a byte order mark, UTF-16.

    Raises:
        PromptError: if it is no text.
    """
    content = path.read_bytes()
    coding = "utf-16" if content.startswith(_UTF16) else "utf-8-sig"
    try:
        return content.decode(coding)
    except UnicodeDecodeError as error:
        raise PromptError(f"{path}: not a text file in UTF-8: {error.reason} at byte {error.start}") from error


def json_of(path: Path) -> Any:
    """The content of a JSON file, as `read_json` reads it.

    Raises:
        PromptError: if it is no JSON, or names something twice, of which only one could be kept.
    """
    try:
        return read_json(path, "prompts")
    except RecordError as error:
        raise PromptError(str(error)) from error


def table_of(path: Path) -> tuple[list[str], list[Row]]:
    """Columns, in lower case, and rows of a table with commas. Empty lines are passed over.

    Raises:
        PromptError: if it is no such table, a column is named twice, or a row has more or fewer cells than the header.
    """
    header, *lines = cells_of(path, text_of(path).splitlines()) or [[]]
    columns = [name.strip().lower() for name in header]
    twice = [name for name in columns if name and columns.count(name) > 1]
    if twice:
        raise PromptError(f"{path}: two columns are called {twice[0]!r}; keep one")
    rows = []
    for number, cells in enumerate(lines, start=1):
        if any(cell.strip() for cell in cells):
            where = f"{path}, row {number}"
            same_length(cells, columns, where)
            rows.append(Row(where, dict(zip(columns, cells, strict=True))))
    return columns, rows


def cells_of(path: Path, lines: Sequence[str]) -> list[list[str]]:
    """The cells of every line with something in it.

    Raises:
        PromptError: if a quotation mark is not closed, or the like.
    """
    try:
        return [cells for cells in csv.reader(io.StringIO("\n".join(lines)), strict=True) if cells]
    except csv.Error as error:
        raise PromptError(f"{path}: not readable as a table: {error}") from error


def same_length(cells: Sequence[str], columns: Sequence[str], where: str) -> None:
    """Refuse a row of which nobody knows which cell belongs where.

    Raises:
        PromptError: says how many there are.
    """
    if len(cells) != len(columns):
        raise PromptError(
            f"{where}: {len(cells)} cells for {len(columns)} columns; is a decimal comma or a comma in a name not in "
            "quotation marks, or is the file cut off?"
        )


def finite(text: str, where: str) -> float:
    """A number.

    Args:
        text: of the cell.
        where: file, row and column, for messages.

    Raises:
        PromptError: if it is none, or not finite.
    """
    try:
        value = float(text)
    except ValueError as error:
        raise PromptError(f"{where}: expected a number such as 20.5, found {text!r}") from error
    if not math.isfinite(value):
        raise PromptError(f"{where}: expected a finite number, found {text!r}")
    return value
