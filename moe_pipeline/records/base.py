"""What all records share: strict, frozen, hashable, saved as a whole."""

import json
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, ValidationError

from moe_pipeline.errors import RecordError
from moe_pipeline.files import sha256_json, write_text


class Part(BaseModel):
    """A piece of a record: frozen, unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Record(Part):
    """One JSON file that we write. `schema_version` changes when its meaning does."""

    schema_version: int = 1

    def save(self, path: Path) -> None:
        """Write as indented JSON, whole or not at all."""
        write_text(path, json.dumps(self.model_dump(mode="json"), indent=2, allow_nan=False) + "\n")

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
            raise RecordError(f"{path}: not a valid {cls.__name__}: {_readable(error)}") from error

    def sha256(self) -> str:
        """Hash of the content, independent of formatting."""
        return sha256_json(self.model_dump(mode="json"))


def _readable(error: ValueError) -> str:
    if not isinstance(error, ValidationError):
        return str(error)
    faults = (f"{'.'.join(map(str, fault['loc'])) or 'record'}: {fault['msg']}" for fault in error.errors())
    return "; ".join(faults)
