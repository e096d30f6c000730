"""Text tables from images unlike an expert's own: what must be text is text, what must be a number is one."""

import math
from pathlib import Path

from moe_pipeline.errors import PromptError


def text_of(path: Path) -> str:
    """A text file, with or without a byte order mark.

    Raises:
        PromptError: if it is no text.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise PromptError(f"{path}: not a text file in UTF-8: {error.reason} at byte {error.start}") from error


def finite(text: str, where: str) -> float:
    """A number.

    Args:
        text: of the low-resolution voxel.
        where: file, row and column, for messages.

    Raises:
        PromptError: if it is none, or not finite.
    """
    try:
        value = float(text)
    except ValueError as error:
        raise PromptError(f"{where}: expected a number, found {text!r}") from error
    if not math.isfinite(value):
        raise PromptError(f"{where}: expected a finite number, found {text!r}")
    return value
