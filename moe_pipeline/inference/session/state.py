"""What a session knows at one moment: objects with their prompts and answers. Nothing in it ever changes."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from moe_pipeline.errors import PromptError
from moe_pipeline.imaging.geometry import Box, Geometry
from moe_pipeline.imaging.volume import Volume
from moe_pipeline.inference.interactive.interact import Turns
from moe_pipeline.inference.interactive.mixture_mask import MixtureMask
from moe_pipeline.prompts.prompt import DensePrompt, Prompt, objects_in_world
from moe_pipeline.records.prompts import ObjectPrompt, Point, WhoAnswered

_BEFOREHAND = 1
"""Value of the object in a mask that was given."""


@dataclass(frozen=True, slots=True, eq=False)
class GivenMask:
    """An earlier mask of an object.

    Attributes:
        labels: uint8, 1 in the object; the part of the canonical grid around it.
        box: which part.
        points: clicks where its largest parts are thickest, voxels (x, y, z) of the image file.
    """

    labels: Volume
    box: Box
    points: tuple[Point, ...]


@dataclass(frozen=True, slots=True, eq=False)
class ObjectAnswer:
    """What the model made of an object's prompts.

    Attributes:
        mask: on the decoders' low-resolution voxels; None where the image shows no contrast around the clicks.
        turns: how far each decoder has come.
        who: answered.
    """

    mask: MixtureMask | None
    turns: Turns
    who: WhoAnswered


@dataclass(frozen=True, slots=True, eq=False)
class SessionObject:
    """One object.

    Attributes:
        number: from 1, in the order in which they were begun.
        class_id: value in the label map.
        class_name: for people.
        clicks: voxel (x, y, z) of the image file, and whether it lies inside, in their order.
        box: first and last voxel.
        given: an earlier mask.
        answer: the last one; None where nobody was asked yet.
        asked: whether the answer is to these prompts, not to those before them.
    """

    number: int
    class_id: int
    class_name: str
    clicks: tuple[tuple[Point, bool], ...] = ()
    box: tuple[Point, Point] | None = None
    given: GivenMask | None = None
    answer: ObjectAnswer | None = None
    asked: bool = False

    @property
    def can_be_asked(self) -> bool:
        """Whether the model can say something: there is a box, or a click inside; a mask alone stays as it is."""
        return self.box is not None or (
            bool(self.clicks) and (self.given is not None or any(i for _, i in self.clicks))
        )

    @property
    def is_empty(self) -> bool:
        """Whether nothing was said about it yet."""
        return not self.clicks and self.box is None and self.given is None

    def with_prompts(
        self, clicks: tuple[tuple[Point, bool], ...] = (), box: tuple[Point, Point] | None = None
    ) -> "SessionObject":
        """The same with other prompts, not answered yet."""
        return replace(self, clicks=clicks, box=box, asked=False)

    def with_mask(self, given: GivenMask | None) -> "SessionObject":
        """The same with a mask, or nothing, instead of all prompts."""
        return replace(self, clicks=(), box=None, given=given, answer=None, asked=False)

    def record(self) -> ObjectPrompt:
        """As in prompts.json, in voxel_xyz.

        Raises:
            PromptError: if its prompts contradict each other.
        """
        own = [(place, True) for place in self.given.points] if self.given is not None else []
        points = [*own, *self.clicks]
        try:
            return ObjectPrompt(
                class_id=self.class_id,
                class_name=self.class_name,
                points=tuple(place for place, _ in points),
                labels=tuple(1 if inside else 0 for _, inside in points),
                box=self.box,
                own_crop=True,
            )
        except ValidationError as error:
            told = "; ".join(fault["msg"].removeprefix("Value error, ") for fault in error.errors())
            raise PromptError(f"object {self.number}: {told}") from error

    def prompt(self, native: Geometry, case: str) -> Prompt:
        """In patient coordinates, as `moe predict` takes it.

        Raises:
            PromptError: if a click lies outside the image, or its prompts contradict each other.
        """
        (prompt,) = objects_in_world([self.record()], "voxel_xyz", native, case)
        dense = DensePrompt(self.given.labels, _BEFOREHAND) if self.given is not None else None
        return replace(prompt, dense=dense)


@dataclass(frozen=True, slots=True, eq=False)
class SessionState:
    """All objects at one moment.

    Attributes:
        objects: by number.
        active: number of the one that prompts are about; 0 if there is none.
        numbers: given away so far.
    """

    objects: Mapping[int, SessionObject] = field(default_factory=dict)
    active: int = 0
    numbers: int = 0

    def with_object(self, wanted: SessionObject) -> "SessionState":
        """The same with one object as it is now, or a new one."""
        return replace(self, objects={**self.objects, wanted.number: wanted}, numbers=max(self.numbers, wanted.number))

    def without(self, number: int) -> "SessionState":
        """The same without one object; the last of the others becomes active."""
        left = {key: value for key, value in self.objects.items() if key != number}
        active = self.active if self.active != number else max(left, default=0)
        return replace(self, objects=left, active=active)

    def without_answers(self) -> "SessionState":
        """The same, but every answer has to be worked out again."""
        bare = {number: replace(one, answer=None, asked=False) for number, one in self.objects.items()}
        return replace(self, objects=bare)


def as_point(given: object, what: str) -> Point:
    """Three finite numbers.

    Raises:
        PromptError: if it is anything else.
    """
    try:
        numbers: NDArray[np.float64] = np.asarray(given, dtype=float)
    except (TypeError, ValueError) as error:
        raise PromptError(f"{what}: expected three numbers (x, y, z), found {given!r}") from error
    if numbers.shape != (3,) or not np.isfinite(numbers).all():
        raise PromptError(f"{what}: expected three numbers (x, y, z), found {given!r}")
    x, y, z = numbers.tolist()
    return x, y, z
