"""The embedding cache's manifest."""

from pydantic import Field

from moe_pipeline.records.base import Part, Record
from moe_pipeline.records.foundation import View


class CacheEntry(Part):
    """One file of the cache: the crops of one case in one augmented copy."""

    key: str
    """Content address: hash of image, label, view, recipes, copy, seed and encoder. Also the file's stem."""
    case: str
    """Case id."""
    copy_index: int = Field(ge=0)
    """0 is the case as it is; higher ones are augmented."""
    classes: tuple[tuple[int, ...], ...]
    """Class ids present in each crop."""


class CacheManifest(Record):
    """manifest.json, written last: what is complete."""

    dataset: str
    """Dataset name."""
    foundation: str
    """Name of the foundation."""
    foundation_sha256: str
    """Its weights."""
    plan_sha256: str
    """The plan the crops follow."""
    view: View
    """The view of the crops."""
    seed: int
    """Of placement and augmentation."""
    entries: tuple[CacheEntry, ...]
    """All files, ordered by case and copy."""
    seconds: float = Field(ge=0)
    """Time spent on the crops that were not cached already."""
