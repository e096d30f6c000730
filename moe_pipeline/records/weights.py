"""Cards that travel beside weight files."""

from typing import Any

from pydantic import Field

from moe_pipeline.records.base import Record
from moe_pipeline.records.view import View


class FoundationCard(Record):
    """Where a foundation's weights come from and how to use them; `<name>.json` beside `<name>.safetensors`."""

    name: str
    """Name to load it by."""
    weights_sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    """sha256 of the safetensors file; checked at each load."""
    source: str
    """File or URL the weights were made from, or the command that made them."""
    source_sha256: str | None = None
    """sha256 of the imported file, if there was one."""
    licence: str
    """Licence of the weights as stated by their authors."""
    view: View
    """The view the weights were trained for."""
    config: dict[str, Any]
    """Sizes of the network, in the form of `FoundationConfig.to_dict()`."""
    training: dict[str, Any] = Field(default_factory=dict)
    """How the weights were made and how well they do: commit, command, seed, hours, samples, validation curve."""
