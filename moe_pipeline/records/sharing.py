"""What an exported model consists of."""

from pydantic import Field

from moe_pipeline.records.base import Part, Record


class SharedFile(Part):
    """One file of an exported model."""

    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    """Of its bytes."""
    n_bytes: int = Field(ge=0)
    """Its size."""


class ShareManifest(Record):
    """manifest.json: every other file of an exported model."""

    files: dict[str, SharedFile]
    """By path inside the model, with forward slashes."""
    foundation: str
    """Name of the foundation the model stands on."""
    foundation_sha256: str
    """Its weights, which are among the files only if `foundation_included`."""
    foundation_included: bool
    """Whether the model can be used without bringing the foundation."""
    package_version: str
    """Version of moe that wrote it."""
