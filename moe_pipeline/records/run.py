"""What every run leaves behind."""

import platform
from importlib.metadata import version
from typing import Any

from pydantic import Field

from moe_pipeline.records.base import Record

_PACKAGE = "moe-pipeline"
_LIBRARIES = (_PACKAGE, "torch", "numpy", "SimpleITK", "batchgenerators", "acvl-utils", "pandas")


class RunRecord(Record):
    """run.json: enough to know what was done, with what, and how long it took."""

    command: str
    """Stage that ran, as on the command line."""
    versions: dict[str, str]
    """Of Python and the libraries that compute."""
    device: str
    """Where the tensors lived."""
    settings: dict[str, Any]
    """All options, defaults included."""
    inputs: dict[str, str] = Field(default_factory=dict)
    """sha256 of what the run was made from, by name."""
    seconds: float = Field(ge=0)
    """Wall time of the stage, resumed parts included where known."""
    results: dict[str, Any] = Field(default_factory=dict)
    """Figures worth a second look."""
    files: list[str] = Field(default_factory=list)
    """Files written, relative to the folder of run.json."""


def package_version() -> str:
    """Version of the installed package."""
    return version(_PACKAGE)


def library_versions() -> dict[str, str]:
    """Versions of Python and of what computes; read from the installed packages, nothing is imported."""
    return {"python": platform.python_version(), **{name: version(name) for name in _LIBRARIES}}
