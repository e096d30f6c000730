"""What every run leaves behind."""

from typing import Any

from pydantic import Field

from moe_pipeline.records.base import Record


class RunRecord(Record):
    """run.json: enough to know what was done, with what, and how long it took."""

    command: str
    """Stage that ran, as on the command line."""
    versions: dict[str, str]
    """Of moe, Python and the libraries that compute."""
    device: str
    """Where the tensors lived."""
    settings: dict[str, Any]
    """All options, defaults included."""
    inputs: dict[str, str] = Field(default_factory=dict)
    """sha256 of what the run was made from, by name."""
    seconds: float = Field(ge=0)
    """Wall time of the stage, resumed parts included where known."""
    files: list[str] = Field(default_factory=list)
    """Files written, relative to the folder of run.json."""
