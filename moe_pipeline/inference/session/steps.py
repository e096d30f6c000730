"""From one state to the next, and the prompts of a step checked and brought to voxels of the image's own grid."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from moe_pipeline.errors import PromptError
from moe_pipeline.imaging.components import regions
from moe_pipeline.imaging.geometry import Box, Geometry
from moe_pipeline.imaging.volume import Volume, to_canonical
from moe_pipeline.inference.session.labels import where, whole
from moe_pipeline.inference.session.state import GivenMask, SessionObject, SessionState, as_point
from moe_pipeline.prompts.formats.masks import object_of_mask
from moe_pipeline.prompts.prompt import from_world, to_world
from moe_pipeline.records.prompts import Point, SessionEvent, Space

_EDGE = 0.5 + 1e-6  # voxels beyond the middle of the last one


@dataclass(frozen=True, slots=True)
class StepChecks:
    """What steps on one image are held against.

    Attributes:
        case: name of the image, for messages.
        native: its own grid.
    """

    case: str
    native: Geometry

    def next_state(self, state: SessionState, event: SessionEvent, given: GivenMask | None) -> SessionState:
        """The state after a step that changes objects; nobody is asked yet.

        Raises:
            PromptError: if the step cannot be done.
        """
        if event.action == "new_object":
            self._check_name(state, event)
            fresh = SessionObject(event.object, event.class_id, event.class_name)
            return replace(state.with_object(fresh), active=event.object)
        wanted = self.object_of(state, event.object)
        if event.action == "remove":
            return state.without(wanted.number)
        changed = _changed(wanted, event, given)
        if changed.can_be_asked:
            changed.prompt(self.native, self.case)  # refused before it becomes part of the session
        return state.with_object(changed)

    def object_of(self, state: SessionState, number: int) -> SessionObject:
        """One object of a state.

        Raises:
            PromptError: if there is none of that number.
        """
        if number not in state.objects:
            there = ", ".join(map(str, state.objects)) or "none"
            raise PromptError(f"{self.case}: no object {number}; there are: {there}. Begin one with new_object")
        return state.objects[number]

    def click(self, point: ArrayLike, space: Space) -> Point:
        """Voxel (x, y, z) of a click.

        Raises:
            PromptError: if it lies outside the image.
        """
        place = self._voxel(point, space, "click")
        if self._is_beyond(place, place):
            raise PromptError(f"{self.case}: the click {as_point(point, 'click')} ({space}) {self._lies_outside()}")
        return place

    def box(self, first: ArrayLike, last: ArrayLike, space: Space) -> tuple[Point, Point]:
        """First and last voxel of a box, without what lies beyond the image.

        Raises:
            PromptError: if all of it lies outside the image.
        """
        corners = [self._voxel(corner, space, "box") for corner in (first, last)]
        low, high = np.min(corners, axis=0), np.max(corners, axis=0)
        if self._is_beyond(high, low):
            raise PromptError(f"{self.case}: the box from {first!r} to {last!r} ({space}) {self._lies_outside()}")
        limits = np.asarray(self.native.shape) - 1
        return as_point(np.clip(low, 0, limits), "box"), as_point(np.clip(high, 0, limits), "box")

    def mask(self, mask: ArrayLike | Volume) -> GivenMask | None:
        """A mask as it is kept; None if nothing is in it.

        Raises:
            PromptError: if it does not fill the image's grid.
        """
        stored = mask if isinstance(mask, Volume) else None
        array: NDArray[Any] = stored.array if stored is not None else np.asarray(mask)
        if array.shape != self.native.shape or array.dtype.kind not in "biuf":
            wanted = f"a mask needs numbers on the image's grid {self.native.shape}"
            raise PromptError(f"{self.case}: {wanted}, found {array.dtype} {array.shape}")
        if stored is not None and (faults := stored.geometry.differences(self.native)):
            raise PromptError(f"{self.case}: the mask lies on another grid than the image: {'; '.join(faults)}")
        held = array > 0
        stored_box = where(held, whole(self.native))
        if stored_box is None:
            return None
        inside = held[tuple(slice(*side) for side in stored_box)].astype(np.uint8)
        part = to_canonical(Volume(inside, self.native.cropped(stored_box)))
        clicks = object_of_mask(1, regions(part.array)[1], part, "")
        voxels = from_world(to_world(clicks.points, "world_lps_mm", self.native), "voxel_xyz", self.native)
        points = tuple(as_point(np.rint(voxel), "mask") for voxel in voxels)
        return GivenMask(part, _box_of(part.geometry, self.native.canonical()), points)

    def _check_name(self, state: SessionState, event: SessionEvent) -> None:
        if event.class_id < 1:
            raise PromptError(f"{self.case}: a class id lies in 1..65535, found {event.class_id}")
        for one in state.objects.values():
            same_id, same_name = one.class_id == event.class_id, one.class_name == event.class_name
            if same_id != same_name and event.class_name and one.class_name:
                there = f"object {one.number}, which is class {one.class_id} {one.class_name!r}"
                raise PromptError(
                    f"{self.case}: class {event.class_id} {event.class_name!r} contradicts {there}; use the same id "
                    "and name, or two others"
                )

    def _voxel(self, point: ArrayLike, space: Space, what: str) -> Point:
        given = as_point(point, f"{self.case}: {what}")
        if space == "voxel_xyz":
            return given
        (place,) = from_world(to_world([given], space, self.native), "voxel_xyz", self.native)
        return as_point(place, what)

    def _is_beyond(self, high: ArrayLike, low: ArrayLike) -> bool:
        """Whether the highest voxel lies before the image, or the lowest one behind it, along any axis."""
        ends = np.asarray(self.native.shape) - 1 + _EDGE
        return bool(((np.asarray(high) < -_EDGE) | (np.asarray(low) > ends)).any())

    def _lies_outside(self) -> str:
        x, y, z = self.native.shape
        return f"lies outside the image, which has {x} x {y} x {z} voxels (x, y, z), counted from 0"


def _box_of(part: Geometry, canonical: Geometry) -> Box:
    """Where a part of a grid lies in it."""
    first = np.rint(canonical.world_to_voxel(part.origin_mm)).astype(int).tolist()
    x, y, z = ((start, start + side) for start, side in zip(first, part.shape, strict=True))
    return x, y, z


def _changed(wanted: SessionObject, event: SessionEvent, given: GivenMask | None) -> SessionObject:
    """An object with the prompts that a step leaves it with."""
    match event.action:
        case "reset":
            return wanted.with_mask(None)
        case "mask":
            return wanted.with_mask(given)
        case "click":
            assert event.point is not None, "a click without a point"
            box = wanted.box
            if box is not None and event.inside:
                box = _holding([*box, event.point])
            return wanted.with_prompts((*wanted.clicks, (event.point, event.inside)), box)
        case _:
            assert event.action == "box", "a step that changes no object"
            assert event.box is not None, "a box without corners"
            inside = [place for place, within in wanted.clicks if within]
            return wanted.with_prompts(wanted.clicks, _holding([*(wanted.box or ()), *event.box, *inside]))


def _holding(points: Sequence[Point]) -> tuple[Point, Point]:
    """The box around points."""
    return as_point(np.min(points, axis=0), "box"), as_point(np.max(points, axis=0), "box")
