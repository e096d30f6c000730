"""Tables as text: for terminals, and as markdown for pages.

Neither library that we have does both: pandas sets words to the right and needs another package for markdown, rich's
markdown has no alignment and leaves a "|" in a cell as it is, and both break or cut what is wider than a terminal.
"""

import math
from collections.abc import Callable, Sequence

import pandas as pd

from moe_pipeline.report.page.blocks import UNKNOWN


def as_text(table: pd.DataFrame, decimals: int = 3) -> str:
    """Fixed-width columns for a terminal: numbers to the right, words to the left, a rule below the header.

    Args:
        table: any table; its index is not shown.
        decimals: of fractional numbers; whole numbers have none, NaN becomes "-".
    """
    columns = _columns(table, decimals)
    if not columns:
        return ""
    pads = _pads(table)
    widths = [max(map(len, cells)) for cells in columns]
    lines = [
        "  ".join(pad(cell, width) for cell, pad, width in zip(cells, pads, widths, strict=True)).rstrip()
        for cells in zip(*columns, strict=True)
    ]
    rule = "  ".join("-" * width for width in widths)
    return "\n".join([lines[0], rule, *lines[1:]])


def as_markdown(table: pd.DataFrame, decimals: int = 3) -> str:
    """The same table for a markdown page, padded so that its source is readable too."""
    columns = [[cell.replace("|", "\\|") for cell in cells] for cells in _columns(table, decimals)]
    if not columns:
        return ""
    pads = _pads(table)
    widths = [max(3, *map(len, cells)) for cells in columns]
    lines = [
        "| " + " | ".join(pad(cell, width) for cell, pad, width in zip(cells, pads, widths, strict=True)) + " |"
        for cells in zip(*columns, strict=True)
    ]
    rules = ["-" * (width - 1) + (":" if pad is str.rjust else "-") for width, pad in zip(widths, pads, strict=True)]
    return "\n".join([lines[0], "| " + " | ".join(rules) + " |", *lines[1:]])


def _columns(table: pd.DataFrame, decimals: int) -> list[list[str]]:
    """Header and cells of each column."""
    return [[str(name), *(_cell(value, decimals) for value in table[name])] for name in table.columns]


def _pads(table: pd.DataFrame) -> Sequence[Callable[[str, int], str]]:
    numeric = [pd.api.types.is_numeric_dtype(kind) and not pd.api.types.is_bool_dtype(kind) for kind in table.dtypes]
    return [str.rjust if is_number else str.ljust for is_number in numeric]


def _cell(value: object, decimals: int) -> str:
    if value is None or value is pd.NA or value is pd.NaT or (isinstance(value, float) and math.isnan(value)):
        return UNKNOWN
    if isinstance(value, float):
        return f"{value:.{decimals}f}"
    return " ".join(str(value).split())
