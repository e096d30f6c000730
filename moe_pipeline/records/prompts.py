"""prompts.json: clicks and boxes for the objects of one or many cases."""

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, ConfigDict, Field, FiniteFloat, model_validator

from moe_pipeline.records.base import Part, Record

Space = Literal["world_lps_mm", "voxel_xyz", "array_zyx"]


def _number(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError(f"a number is expected, found {value}")
    return value


Coordinate = Annotated[FiniteFloat, BeforeValidator(_number)]
Point = tuple[Coordinate, Coordinate, Coordinate]


class ObjectPrompt(Part):
    """Clicks on one object of one class, or a box around it. Several objects of a class are several of these."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    class_id: Annotated[int, BeforeValidator(_number)] = Field(ge=1, le=65535)
    """Value the object gets in the label map."""
    class_name: str = ""
    """Name for the tables."""
    points: tuple[Point, ...] = ()
    """Positions of the clicks, in the file's space."""
    labels: tuple[Literal[0, 1], ...] = ()
    """1 for a click inside the object, 0 for one outside; as many as points, at least one 1 unless there is a box."""
    box: tuple[Point, Point] | None = None
    """Two opposite corners of a box around the object, whose sides run along the axes of the file's space; of indices
    the first and the last voxel. It places the crop, and its centre is the click inside where points has none."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if len(self.labels) != len(self.points):
            raise ValueError(f"{len(self.points)} points but {len(self.labels)} labels; give one label per point")
        if 1 not in self.labels and self.box is None:
            raise ValueError("no point is labelled 1; at least one click must lie inside the object, or give a box")
        if self.box is not None and self.box[0] == self.box[1]:
            raise ValueError(f"a box without extent, at {self.box[0]}; give a click there instead")
        signs = set(zip(self.points, self.labels, strict=True))
        if both := {place for place, _ in signs if {(place, 0), (place, 1)} <= signs}:
            raise ValueError(f"the click {min(both)} is labelled both 1 and 0; keep one")
        return self


class PromptFile(Record):
    """All prompts of a folder of images."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    schema_version: Literal[1] = 1
    """Of this format; a file of a later one is refused."""
    space: Space
    """world_lps_mm: patient coordinates in mm as ITK and DICOM count them; voxel_xyz: index in the image file,
    ITK's order; array_zyx: the same index as numpy sees an array that SimpleITK gives."""
    made_by: str = ""
    """What placed the clicks, where it was no human: for people, never read by a program."""
    cases: dict[str, tuple[ObjectPrompt, ...]]
    """Objects by case id, the file's name without its ending."""


def prompt_schema() -> dict[str, object]:
    """The JSON schema of prompts.json, published as docs/prompts.schema.json."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **PromptFile.model_json_schema()}
