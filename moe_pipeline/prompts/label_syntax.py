"""What people write beside a click: class, object, and whether it lies inside."""

import re
from dataclasses import dataclass

from moe_pipeline.errors import PromptError

UNNAMED = "object"
"""The class of clicks that nothing is written beside."""

_OUTSIDE = "neg|negative|outside|background|bg|false"
_INSIDE = "pos|positive|inside|foreground|fg|true"
_SIGN = (
    r"(?P<sign>\s*[-+]"
    r"|[\s_:,;/|-]+(?:neg|negative|outside|background|bg|pos|positive)"
    rf"|[\s_:-]*[(\[](?:{_OUTSIDE}|{_INSIDE}|[-+])[)\]])"
)
_CLASS = r"\s*(?:(?P<id>\d+)(?:\.0+)?(?![\w.])[\s:]*)?(?P<name>.*?)\s*(?:#(?P<object>\d+))?"
_PATTERNS = (
    re.compile(rf"{_CLASS}{_SIGN}-\d+\s*", re.IGNORECASE),
    re.compile(rf"{_CLASS}(?:-\d+)?{_SIGN}?\s*", re.IGNORECASE),
)
_SIGN_ALONE = re.compile(rf"[(\[]?(?:(?P<outside>{_OUTSIDE}|-)|{_INSIDE}|\+)[)\]]?(?:(?<=\w)-\d+)?", re.IGNORECASE)
_NUMBER = re.compile(r"[-+]?(?:\d+(?:[.,]\d*)?|[.,]\d+)|[-+]?(?:nan|inf|infinity)", re.IGNORECASE)
_SIGN_OR_COUNT = re.compile(r"\s[-+]\d+$")
_SIGN_WITHIN = re.compile(r"(?<![^\W_])(?:neg|negative|outside|background)(?![^\W_])", re.IGNORECASE)
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

    @property
    def is_stray(self) -> bool:
        """Whether it says outside, but not of what."""
        return not self.inside and self.class_id is None and self.name == UNNAMED


def parse_label(text: str, where: str) -> ParsedLabel:
    """Read a label such as `liver`, `3 liver`, `lesion#2`, `liver neg`, `liver (neg)`, `liver-`, or `liver-1`.

    A number in front is the class id; `#2` the object; `neg` or a minus at the end puts the click outside; the number
    that 3D Slicer appends to count points is dropped. A sign alone, such as `positive` or `False`, names no class.

    Args:
        text: of the label.
        where: file and point, for messages.

    Raises:
        PromptError: if the class id is none of 1..65535, or the label could be read in two ways.
    """
    label = " ".join(text.split())
    if alone := sign_of(label):
        return ParsedLabel(None, UNNAMED, inside=alone == "inside")
    if _NUMBER.fullmatch(label):
        return ParsedLabel(_whole(label, where), "")
    found = next(match for pattern in _PATTERNS if (match := pattern.fullmatch(label)))
    class_id = _checked(int(found["id"]), text, where) if found["id"] else None
    name = found["name"] or ("" if class_id is not None else UNNAMED)
    if class_id is not None and not found["sign"] and (alone := sign_of(name)):
        return ParsedLabel(class_id, "", int(found["object"] or 1), inside=alone == "inside")
    if not found["sign"] and (_SIGN_OR_COUNT.search(label) or _SIGN_WITHIN.search(name)):
        raise PromptError(
            f"{where}: label {text!r} can be read in two ways; write 'liver neg' for a click outside the liver, "
            "'liver-2' for its second click, and '5 liver pos' for a class 5 whose name looks like a sign"
        )
    sign = found["sign"] or "+"
    inside = sign_of(re.sub(r"[^a-z]", "", sign.lower()) or re.sub("[^-+]", "", sign)) != "outside"
    return ParsedLabel(class_id, name, int(found["object"] or 1), inside)


def sign_of(text: str) -> str:
    """`inside` or `outside` for a sign that stands alone, such as `positive`, `(neg)`, `False`; else nothing."""
    found = _SIGN_ALONE.fullmatch(text.strip())
    return ("outside" if found["outside"] else "inside") if found else ""


def format_label(class_id: int, name: str, number: int, *, inside: bool, count: int) -> str:
    """The label that `parse_label` reads as these, whatever the name looks like."""
    return f"{class_id} {name}#{number} {'pos' if inside else 'neg'}-{count}"


def _whole(label: str, where: str) -> int:
    try:
        value = float(label.replace(",", "."))
        whole = int(value)
    except (ValueError, OverflowError):
        value, whole = 0.5, 0
    if value != whole or label[0] in "+-":
        raise PromptError(f"{where}: {_no_id(label)}")
    return _checked(whole, label, where)


def _checked(class_id: int, text: str, where: str) -> int:
    if not 1 <= class_id <= _HIGHEST_ID:
        raise PromptError(f"{where}: {_no_id(text)}")
    return class_id


def _no_id(text: str) -> str:
    return (
        f"label {text!r} is no class: a class id is a whole number, and a class id lies in 1..{_HIGHEST_ID}; a click "
        "outside is written 'neg'"
    )
