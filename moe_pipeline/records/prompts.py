"""prompts.json: clicks for the objects of one or many cases."""

from typing import Literal, Self

from pydantic import Field, FiniteFloat, model_validator

from moe_pipeline.records.base import Part, Record

Space = Literal["world_lps_mm", "voxel_xyz", "array_zyx"]


class ObjectPrompt(Part):
    """Clicks on one object of one class."""

    class_id: int = Field(ge=1, le=65535)
    """Value the object gets in the label map."""
    class_name: str = ""
    """Name for the tables."""
    points: tuple[tuple[FiniteFloat, FiniteFloat, FiniteFloat], ...] = Field(min_length=1)
    """Positions, in the file's space."""
    labels: tuple[Literal[0, 1], ...]
    """1 for a click inside the object, 0 for one outside; as many as points, at least one of them 1."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if len(self.labels) != len(self.points):
            raise ValueError(f"{len(self.points)} points but {len(self.labels)} labels; give one label per point")
        if 1 not in self.labels:
            raise ValueError("no point is labelled 1; at least one click must lie inside the object")
        return self


class PromptFile(Record):
    """All prompts of a folder of images."""

    space: Space
    """world_lps_mm: patient coordinates in mm as ITK and DICOM count them; voxel_xyz: index in the image file,
    ITK's order; array_zyx: the same index as numpy sees an array that SimpleITK gives."""
    cases: dict[str, tuple[ObjectPrompt, ...]]
    """Objects by case id, the file's name without its ending."""
