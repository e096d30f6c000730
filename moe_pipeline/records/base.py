"""What all records share: strict, frozen, hashable, saved as a whole. And how JSON is read, ours or not."""

import json
from collections import Counter
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from moe_pipeline.errors import RecordError
from moe_pipeline.files import sha256_json, write_text

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

_SAID = ("extra_forbidden", "missing", "value_error")  # their messages name what was found
_MAX_FOUND = 60
_USUAL = (
    "a comma after the last entry, a comment, single quotes or a bracket that is not closed are the usual causes; mend "
    "it in a text editor"
)


class Part(BaseModel):
    """A piece of a record: frozen, unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Record(Part):
    """One JSON file that we write. `schema_version` changes when its meaning does."""

    schema_version: int = 1

    def save(self, path: Path) -> None:
        """Write as indented JSON, whole or not at all."""
        write_text(path, self.as_text())

    def as_text(self) -> str:
        """Indented JSON, as in the file."""
        return json.dumps(self.model_dump(mode="json"), indent=2, allow_nan=False) + "\n"

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read and validate.

        Raises:
            RecordError: if the file is missing, no JSON, or breaks the schema; names file, field and fault.
        """
        content = read_json(path, f"a {cls.__name__} record")
        try:
            return cls.model_validate(content)
        except ValueError as error:
            raise RecordError(f"{path}: not a valid {cls.__name__}: {_readable(error, cls.model_fields)}") from error

    def sha256(self) -> str:
        """Hash of the content, independent of formatting."""
        return sha256_json(self.model_dump(mode="json"))


def read_json(path: Path, expected: str = "JSON") -> Any:
    """Content of a JSON file in UTF-8, UTF-16 or UTF-32, with or without a byte order mark.

    Args:
        path: of the file.
        expected: what it should be, for messages: "a label map".

    Raises:
        RecordError: if it is missing, cannot be opened, or is no JSON, has a key twice, or a number that is none; names
            the file, the line and the column, and what to do.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        link = f", but a link to {path.readlink()}, which is not there" if path.is_symlink() else ""
        raise RecordError(f"{path}: no such file{link}; expected {expected}") from error
    except OSError as error:
        reason = f"cannot be read ({error.strerror}); expected {expected}. Make it readable, or copy it again"
        raise RecordError(f"{path}: {reason}") from error
    try:
        text = content.decode(json.detect_encoding(content)).removeprefix("\ufeff")
        return json.loads(text, object_pairs_hook=_without_duplicates, parse_constant=_no_number)
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}: {error.msg}"
        raise RecordError(f"{path}: not JSON: {place}; {_USUAL}") from error
    except UnicodeDecodeError as error:
        reason = f"byte {error.start} is no {error.encoding.upper()} text; save it as UTF-8"
        raise RecordError(f"{path}: not JSON: {reason}") from error
    except ValueError as error:
        raise RecordError(f"{path}: not JSON: {error}") from error
    except RecursionError as error:
        raise RecordError(f"{path}: not JSON that can be read: nested too deep; expected {expected}") from error


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        key = next(key for key, n in Counter(key for key, _ in pairs).items() if n > 1)
        values = " and ".join(json.dumps(value, default=str)[:_MAX_FOUND] for one, value in pairs if one == key)
        raise ValueError(f"the key {key!r} comes twice, with {values}; keep one of them")
    return found


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number in JSON; write null, or a number")


def _readable(error: ValueError, fields: Collection[str]) -> str:
    if not isinstance(error, ValidationError):
        return str(error)
    return "; ".join(_fault(fault, fields) for fault in error.errors())


def _fault(fault: "ErrorDetails", fields: Collection[str]) -> str:
    """Field, what is allowed, and what was found."""
    place = ".".join(map(str, fault["loc"])) or "record"
    if fault["type"] == "extra_forbidden" and len(fault["loc"]) == 1:
        return f"{place}: {fault['msg']}; fields are {', '.join(fields)}"
    if fault["type"] in _SAID or isinstance(fault["input"], dict):
        return f"{place}: {fault['msg']}"
    found = json.dumps(fault["input"], default=str)
    return f"{place}: {fault['msg']}, found {found if len(found) <= _MAX_FOUND else found[:_MAX_FOUND] + '...'}"
