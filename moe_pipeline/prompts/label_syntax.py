"""What people write beside a click: class, object, and whether it lies inside."""

import re
from dataclasses import dataclass

from moe_pipeline.errors import PromptError

UNNAMED = "object"
"""The class of clicks that nothing is written beside."""

_SIGN = r"(?P<sign>\s*[-+]|[\s_-]+(?:neg|negative|pos|positive))"
_CLASS = r"\s*(?:(?P<id>\d+)(?:\.0+)?(?![\w.])[\s:]*)?(?P<name>.*?)\s*(?:#(?P<object>\d+))?"
_PATTERNS = (
    re.compile(rf"{_CLASS}{_SIGN}-\d+\s*", re.IGNORECASE),
    re.compile(rf"{_CLASS}(?:-\d+)?{_SIGN}?\s*", re.IGNORECASE),
)
_HIGHEST_ID = 65535


@dataclass(frozen=True, slots=True)
class ParsedLabel:
    """What a label says.

    Attributes:
        class_id: value in the label map; None if the label does not say.
        name: of the class.
        number: which object of the class.
        inside: whether the click lies inside the object.
    """

    class_id: int | None
    name: str
    number: int = 1
    inside: bool = True


def parse_label(text: str, where: str) -> ParsedLabel:
    """Read a label such as `liver`, `3 liver`, `lesion#2`, `liver neg`, `liver-`, or 3D Slicer's `liver-1`.

    A number in front is the class id; `#2` the object; `neg` or a minus at the end puts the click outside; the number
    that 3D Slicer appends to count points is dropped.

    Args:
        text: of the label.
        where: file and point, for messages.

    Raises:
        PromptError: if the class id is none of 1..65535.
    """
    found = next(match for pattern in _PATTERNS if (match := pattern.fullmatch(" ".join(text.split()))))
    class_id = int(found["id"]) if found["id"] else None
    if class_id is not None and not 1 <= class_id <= _HIGHEST_ID:
        raise PromptError(f"{where}: label {text!r} begins with {class_id}; a class id lies in 1..{_HIGHEST_ID}")
    name = found["name"] or ("" if class_id is not None else UNNAMED)
    sign = (found["sign"] or "").strip().lower()
    inside = sign != "-" and "neg" not in sign
    return ParsedLabel(class_id, name, int(found["object"] or 1), inside)


def format_label(class_id: int, name: str, number: int, *, inside: bool, count: int) -> str:
    """The label that `parse_label` reads as these, whatever the name looks like."""
    return f"{class_id} {name}#{number} {'pos' if inside else 'neg'}-{count}"
