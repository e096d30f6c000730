"""Arguments as people give them in Python: brought to what is wanted, or refused by their names."""

import math
import operator
import os
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import fields
from numbers import Real
from pathlib import Path
from typing import Any, TypeVar

from moe_pipeline.errors import PipelineError

Value = TypeVar("Value")
AnyPath = str | os.PathLike[str]
Names = str | int | Iterable[str | int]
_MAX_SHOWN = 60


def options_of(kind: Callable[..., Value], given: Mapping[str, Any], function: str | None = None) -> Value:
    """A record of options from those keywords that are its fields, each brought to the field's type.

    Args:
        kind: the record, a dataclass.
        given: keywords.
        function: that they were given to, if they must all be fields.

    Raises:
        PipelineError: names the argument that has another type or that the record refuses.
    """
    types = {one.name: one.type for one in fields(kind)}  # type: ignore[arg-type]  # kind is a dataclass
    if function is not None:
        refuse_unknown(function, given, types)
    return kind(**{name: _CONVERTERS[types[name]](name, value) for name, value in given.items() if name in types})


def refuse_unknown(function: str, given: Iterable[str], known: Iterable[str]) -> None:
    """Refuse a keyword that there is none of.

    Raises:
        PipelineError: names it and those that there are.
    """
    known = list(known)
    for name in given:
        if name not in known:
            raise PipelineError(f"{function}: no argument {name!r}; there are: {', '.join(known)}")


def as_path(name: str, value: object) -> Path:
    """A path of text or of anything that is one."""
    if isinstance(value, str | os.PathLike) and (path := os.fspath(value)) and isinstance(path, str):
        return Path(path)
    raise _refused(name, "a path", value)


def as_folder(name: str, value: object, holding: str) -> Path:
    """A path of a folder that is there.

    Args:
        name: of the argument.
        value: as it was given.
        holding: what is expected in it.
    """
    folder = as_path(name, value)
    if not folder.is_dir():
        raise PipelineError(f"{name}: {folder}: no such folder; expected {holding}")
    return folder


def as_names(name: str, value: object) -> tuple[str, ...]:
    """Names or numbers; one alone is one name, not its letters."""
    listed = [value] if isinstance(value, str | int) and not isinstance(value, bool) else value
    if isinstance(listed, Iterable) and not isinstance(listed, bytes | Mapping):
        found = tuple(listed)
        if all(isinstance(one, str | int) and not isinstance(one, bool) and one != "" for one in found):
            return tuple(map(str, found))
    raise _refused(name, "names or numbers", value)


def as_text(name: str, value: object) -> str:
    """Text that is not empty."""
    if isinstance(value, str) and value:
        return value
    raise _refused(name, "text", value)


def as_choice(name: str, value: object, known: Collection[Value]) -> Value:
    """One of several words."""
    for one in known:
        if value == one:
            return one
    raise PipelineError(f"{name}: no {name} {value!r}; there are: {', '.join(map(str, known))}")


def as_flag(name: str, value: object) -> bool:
    """True or False."""
    if isinstance(value, bool):
        return value
    raise _refused(name, "True or False", value)


def as_whole(name: str, value: object) -> int:
    """A whole number, also one of numpy's."""
    if not isinstance(value, bool) and hasattr(value, "__index__"):
        return operator.index(value)
    raise _refused(name, "a whole number", value)


def as_number(name: str, value: object) -> float:
    """A finite number."""
    if isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value):
        return float(value)
    raise _refused(name, "a number", value)


def as_dataset(name: str, value: object) -> str:
    """Number, name or path of one dataset, as text."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return str(as_path(name, value))


def as_datasets(name: str, value: Any) -> tuple[str, ...]:
    """Several datasets, or one alone."""
    alone = not isinstance(value, list | tuple | set)
    return tuple(as_dataset(name, one) for one in ([value] if alone else value))


def as_least(name: str, value: object, least: int) -> int:
    """A whole number that is not below another."""
    number = as_whole(name, value)
    if number < least:
        raise PipelineError(f"{name}: expected at least {least}, found {number}")
    return number


def as_positive(name: str, value: object) -> float:
    """A finite number above 0."""
    number = as_number(name, value)
    if number <= 0:
        raise PipelineError(f"{name}: expected more than 0, found {number:g}")
    return number


def as_several(name: str, value: Any, each: Callable[[str, Any], Value]) -> tuple[Value, ...]:
    """Several values, or one alone."""
    several = isinstance(value, Iterable) and not isinstance(value, str | os.PathLike)
    return tuple(each(name, one) for one in (value if several else [value]))


def _optional(convert: Callable[[str, Any], Any]) -> Callable[[str, Any], Any]:
    return lambda name, value: None if value is None else convert(name, value)


_CONVERTERS: dict[Any, Callable[[str, Any], Any]] = {
    Path: as_path,
    Path | None: _optional(as_path),
    str: as_text,
    str | None: _optional(as_text),
    int: as_whole,
    int | None: _optional(as_whole),
    float: as_number,
    float | None: _optional(as_number),
    bool: as_flag,
    tuple[str, ...]: as_names,
    tuple[int, ...]: lambda name, value: as_several(name, value, as_whole),
    tuple[Path, ...]: lambda name, value: as_several(name, value, as_path),
}


def _refused(name: str, expected: str, found: object) -> PipelineError:
    shown = repr(found)
    shown = shown if len(shown) <= _MAX_SHOWN else shown[:_MAX_SHOWN] + "..."
    return PipelineError(f"{name}: expected {expected}, found {type(found).__name__} {shown}")
