"""Our own prompts.json, read case by case: a fault in one costs that case alone."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from moe_pipeline.errors import PromptError
from moe_pipeline.prompts.formats.text import json_of
from moe_pipeline.records.prompts import ObjectPrompt, PromptFile, Space

_OBJECTS = TypeAdapter(tuple[ObjectPrompt, ...])


@dataclass(frozen=True, slots=True)
class ManyCases:
    """What a prompts.json holds.

    Attributes:
        space: of its points.
        cases: objects by case.
        faults: why the objects of a case cannot be used.
    """

    space: Space
    cases: Mapping[str, tuple[ObjectPrompt, ...]]
    faults: Mapping[str, PromptError]


def read(path: Path) -> ManyCases:
    """All cases of a file.

    Raises:
        PromptError: if what stands above the cases breaks the schema, or a case stands in it twice.
    """
    content = json_of(path)
    listed: Any = content.get("cases") if isinstance(content, dict) else None
    cases: dict[str, tuple[ObjectPrompt, ...]] = {}
    faults: dict[str, PromptError] = {}
    try:
        head = PromptFile.model_validate({**content, "cases": {} if isinstance(listed, dict) else listed})
    except (ValidationError, TypeError) as error:
        raise PromptError(f"{path}: not a valid prompts.json: {_fault(error)}") from error
    for case, objects in listed.items():
        try:
            cases[case] = _OBJECTS.validate_python(objects)
        except ValidationError as error:
            faults[case] = PromptError(f"{path}: {case}: {_fault(error)}")
    return ManyCases(head.space, cases, faults)


def _fault(error: ValidationError | TypeError) -> str:
    if not isinstance(error, ValidationError):
        return str(error)
    told = ((".".join(map(str, one["loc"])), one["msg"].removeprefix("Value error, ")) for one in error.errors())
    return "; ".join(f"{place}: {message}".lstrip(": ") for place, message in told)
