"""What all records share: strict, frozen, hashable, saved as a whole."""

import json
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from moe_pipeline.errors import RecordError
from moe_pipeline.files import sha256_json, write_text

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

_SAID = ("extra_forbidden", "missing", "value_error")  # their messages name what was found
_MAX_FOUND = 60


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
        if not path.is_file():
            raise RecordError(f"{path}: no such file; expected a {cls.__name__} record")
        try:
            return cls.model_validate(json.loads(path.read_text(encoding="utf-8")))
        except (ValueError, UnicodeDecodeError) as error:
            raise RecordError(f"{path}: not a valid {cls.__name__}: {_readable(error, cls.model_fields)}") from error

    def sha256(self) -> str:
        """Hash of the content, independent of formatting."""
        return sha256_json(self.model_dump(mode="json"))


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
