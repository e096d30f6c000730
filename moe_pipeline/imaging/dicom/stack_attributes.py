"""What may tell the volumes of one series apart: diffusion weighting, time, echo, and the like."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

_PRIVATE_B_VALUES = (  # attribute, and where the header says whose it is
    (0x0019_100C, 0x0019_0010, "SIEMENS MR HEADER"),
    (0x0043_1039, 0x0043_0010, "GEMS_PARM_01"),
    (0x2001_1003, 0x2001_0010, "Philips Imaging DD 001"),
)
_GE_B_VALUE_OFFSET = 1_000_000  # GE adds multiples of it as flags
Find = Callable[[str | int], Any]
"""Value of an attribute by its DICOM keyword, or the element by its number; None where there is none."""
_WORD = re.compile(r"[A-Za-z0-9.]{1,16}")


@dataclass(frozen=True, slots=True)
class StackAttribute:
    """A property of a slice."""

    title: str
    """For people."""
    short: str
    """For case ids."""
    keywords: tuple[str, ...]
    """DICOM attributes that may hold it; the first one there counts."""


STACK_ATTRIBUTES = (
    StackAttribute("b-value", "b", ("DiffusionBValue",)),
    StackAttribute("diffusion direction", "dir", ("DiffusionGradientOrientation",)),
    StackAttribute(
        "time point", "t", ("TemporalPositionIdentifier", "TemporalPositionIndex", "TemporalPositionTimeOffset")
    ),
    StackAttribute("trigger time", "trigger", ("TriggerTime", "NominalCardiacTriggerDelayTime")),
    StackAttribute("echo time", "te", ("EchoTime", "EffectiveEchoTime")),
    StackAttribute("echo number", "echo", ("EchoNumbers",)),
    StackAttribute("inversion time", "ti", ("InversionTime", "InversionTimes")),
    StackAttribute("flip angle", "flip", ("FlipAngle",)),
    StackAttribute("image type", "type", ("ImageType", "FrameType")),
    StackAttribute("complex component", "part", ("ComplexImageComponent",)),
    StackAttribute("frame time", "frame", ("FrameReferenceTime",)),
    StackAttribute("acquisition number", "acq", ("AcquisitionNumber", "FrameAcquisitionNumber")),
    StackAttribute("acquisition time", "at", ("AcquisitionDateTime", "FrameAcquisitionDateTime", "AcquisitionTime")),
    StackAttribute("kernel", "kernel", ("ConvolutionKernel",)),
    StackAttribute("stack", "stack", ("StackID",)),
    StackAttribute("content time", "ct", ("ContentTime",)),
)


@dataclass(frozen=True, slots=True)
class Separation:
    """Slices of one series in groups that hold each place once."""

    titles: tuple[str, ...]
    """Which properties tell the groups apart."""
    groups: tuple[tuple[str, str, tuple[int, ...]], ...]
    """Short name for ids, value for people, and indices of the slices of each group; in the order of the values."""


def stack_attributes_of(find: Find) -> tuple[str, ...]:
    """Values of `STACK_ATTRIBUTES` as text, empty where a slice has none."""
    values = [
        next((value for value in map(find, attribute.keywords) if value is not None), "")
        for attribute in STACK_ATTRIBUTES
    ]
    if values[0] == "":
        values[0] = _private_b_value(find)
    return tuple(_text(value) for value in values)


def separate(attributes: Sequence[tuple[str, ...]], places: Sequence[int]) -> Separation | None:
    """Groups by the first property, or pair of properties, that leaves no two slices at one place.

    Args:
        attributes: of each slice.
        places: number of the place of each slice.

    Returns:
        None if nothing tells them apart.
    """
    varying = [
        index for index in range(len(STACK_ATTRIBUTES)) if len({attribute[index] for attribute in attributes}) > 1
    ]
    for chosen in [*combinations(varying, 1), *combinations(varying, 2)]:
        groups: dict[tuple[str, ...], list[int]] = {}
        for number, attribute in enumerate(attributes):
            groups.setdefault(tuple(attribute[index] for index in chosen), []).append(number)
        if all(len({places[number] for number in members}) == len(members) for members in groups.values()):
            return _named(chosen, groups)
    return None


def _named(chosen: tuple[int, ...], groups: dict[tuple[str, ...], list[int]]) -> Separation:
    ordered = sorted(groups, key=lambda values: [_numeric(value) for value in values])
    named = []
    for ordinal, values in enumerate(ordered, start=1):
        words = [STACK_ATTRIBUTES[index].short + value for index, value in zip(chosen, values, strict=True)]
        is_plain = all(_WORD.fullmatch(value) for value in values)
        short = "".join(words) if is_plain else f"{STACK_ATTRIBUTES[chosen[0]].short}{ordinal}"
        named.append((short, ", ".join(value or "none" for value in values), tuple(groups[values])))
    return Separation(tuple(STACK_ATTRIBUTES[index].title for index in chosen), tuple(named))


def _numeric(text: str) -> tuple[float, str]:
    try:
        return float(text), text
    except ValueError:
        return float("-inf") if not text else float("inf"), text


def _private_b_value(find: Find) -> str:
    for tag, owner_tag, owner in _PRIVATE_B_VALUES:
        element, creator = find(tag), find(owner_tag)
        if element is None or creator is None or str(creator.value).strip() != owner:
            continue
        value = element.value
        if isinstance(value, bytes):  # as it stands in the file, where the header says no type
            value = value.decode("ascii", "ignore")
        first = _text(value).replace("\\", "/").split("/")[0].strip("\0 ")
        if first:
            return f"{float(first) % _GE_B_VALUE_OFFSET:g}"
    return ""


def _text(value: Any) -> str:
    if value is None or isinstance(value, str):
        return (value or "").strip()
    if isinstance(value, int | float):
        return f"{float(value):.6g}"
    try:
        return "/".join(_text(part) for part in value)
    except TypeError:
        return str(value).strip()
