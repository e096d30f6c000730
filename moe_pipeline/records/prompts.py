"""prompts.json: clicks and boxes for the objects of one or many cases; and what a person did, step by step."""

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
    own_crop: bool = False
    """Whether the object's first crop is chosen for it alone, as a session does, whose masks come again only so; else
    objects that lie close together share one, which is quicker."""

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


Action = Literal["open", "new_object", "select", "remove", "click", "box", "mask", "reset", "undo", "redo", "accept"]


class WhoAnswered(Part):
    """Who answered an object, and how sure."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    expert: str
    """Name of the expert; `general` is the foundation."""
    weight: float
    """Of the expert's mask; 0 where the foundation answered alone."""
    in_distribution: bool
    """False: the gate preferred an expert, but the image is unlike that expert's own."""
    probability: float
    """Mean of the mask's voxels; 0 where the mask is empty."""
    complete: bool
    """False: the object was larger than the crops that it may take."""
    volume_ml: float
    """Of the object, before others that overlap it take their part."""
    message: str = ""
    """What a person should know; empty if nothing."""


class SessionEvent(Part):
    """One step. Coordinates are voxels (x, y, z) of the image file, in ITK's order."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    action: Action
    """What was done."""
    at: FiniteFloat
    """When, in seconds since 1970."""
    object: int = Field(default=0, ge=0)
    """Number of the object, from 1; 0 for steps that are about no single one."""
    class_id: int = Field(default=0, ge=0, le=65535)
    """Of a new object: value in the label map."""
    class_name: str = ""
    """Of a new object."""
    point: Point | None = None
    """Of a click."""
    inside: bool = True
    """Of a click: whether it lies in the object."""
    box: tuple[Point, Point] | None = None
    """First and last voxel of a box."""
    mask: str = ""
    """Of a mask: name of its file beside the journal."""
    image_sha256: str = ""
    """Of the step that opens an image: hash of its file."""
    steps: int = Field(default=1, ge=1)
    """Of undo and redo."""
    seconds: FiniteFloat = 0.0
    """That the answer took."""
    answer: WhoAnswered | None = None
    """What the model said to it."""


class ClassNames(Record):
    """classes.json of a dataset that is being annotated: what was named so far, accepted or not."""

    names: dict[int, str]
    """Class name by id."""


def prompt_schema() -> dict[str, object]:
    """The JSON schema of prompts.json, published as docs/prompts.schema.json."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **PromptFile.model_json_schema()}
