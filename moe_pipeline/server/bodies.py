"""What the JSON API takes and gives."""

import base64
import zlib
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, FiniteFloat

from moe_pipeline.imaging.geometry import Box
from moe_pipeline.inference.session.change import SessionChange
from moe_pipeline.inference.session.session import Session
from moe_pipeline.inference.session.state import SessionObject
from moe_pipeline.records.base import Part
from moe_pipeline.records.prompts import Point, Space, WhoAnswered
from moe_pipeline.server.scans import Scan


class OpenBody(Part):
    """How to open a scan."""

    take: bool = False
    """End the session of whoever works on that scan now."""


class ClickBody(Part):
    """A click."""

    point: tuple[FiniteFloat, FiniteFloat, FiniteFloat]
    """Where."""
    inside: bool = True
    """Whether it lies in the object."""
    space: Space = "voxel_xyz"
    """Of the point."""


class BoxBody(Part):
    """A box around the object."""

    first: tuple[FiniteFloat, FiniteFloat, FiniteFloat]
    """One corner; of indices, the first voxel."""
    last: tuple[FiniteFloat, FiniteFloat, FiniteFloat]
    """The opposite one; of indices, the last voxel."""
    space: Space = "voxel_xyz"
    """Of the corners."""


class ClassBody(Part):
    """Class of a new object: by its name, or the id that a known one has."""

    class_name: str | None = None
    """Known or new."""
    class_id: int | None = Field(default=None, ge=1, le=65535)
    """Of a known class."""


class StepsBody(Part):
    """How many steps."""

    steps: int = Field(default=1, ge=1, le=100_000)
    """To undo, or to do again."""


class Patch(Part):
    """A box of the label map as it is now."""

    box: Box
    """Half-open, in voxels of the image's own grid."""
    dtype: Literal["uint8", "uint16"]
    """Of the class ids, little endian."""
    data: str
    """Class ids with x fastest, then y, then z; deflate (zlib), then base64."""


class ObjectView(Part):
    """An object as it is now."""

    number: int
    """From 1."""
    class_id: int
    """Value in the label map."""
    class_name: str
    """For people."""
    clicks: tuple[tuple[Point, bool], ...]
    """Voxel (x, y, z), and whether it lies inside."""
    box: tuple[Point, Point] | None
    """First and last voxel."""
    has_mask: bool
    """Whether it began with a mask that was given."""
    answer: WhoAnswered | None
    """Who answered; None where nobody was asked."""


class SessionView(Part):
    """A session as it is now."""

    case: str
    """Name of the scan."""
    state: str
    """untouched, begun or accepted."""
    shape: tuple[int, int, int]
    """Voxels of the image's own grid."""
    spacing_mm: tuple[float, float, float]
    """Of that grid."""
    objects: tuple[ObjectView, ...]
    """By number."""
    active: int
    """Number of the object that prompts are about; 0 if there is none."""
    can_undo: int
    """Steps."""
    can_redo: int
    """Steps."""
    remaining_seconds: float
    """Until the session ends if nothing is done; its steps are kept."""


class ChangeView(Part):
    """What a step did."""

    object: int
    """Number of the active object; 0 if there is none."""
    answer: WhoAnswered | None
    """Of the active object."""
    seconds: float
    """That it took in the server."""
    patch: Patch | None
    """All of the label map that changed; None if nothing did."""
    session: SessionView
    """As it is after it."""


def change_view(session: Session, change: SessionChange, view: SessionView) -> ChangeView:
    """A change with its voxels."""
    patch = None if change.box is None else patch_of(change.box, session.labels_in(change.box))
    return ChangeView(
        object=change.object, answer=change.answer, seconds=round(change.seconds, 4), patch=patch, session=view
    )


def patch_of(box: Box, labels: NDArray[np.uint8 | np.uint16]) -> Patch:
    """Class ids of a box, packed."""
    raw = np.asarray(labels, labels.dtype.newbyteorder("<")).tobytes(order="F")
    dtype: Literal["uint8", "uint16"] = "uint8" if labels.dtype == np.uint8 else "uint16"
    return Patch(box=box, dtype=dtype, data=base64.b64encode(zlib.compress(raw, 1)).decode())


def object_view(wanted: SessionObject) -> ObjectView:
    """An object for people."""
    return ObjectView(
        number=wanted.number,
        class_id=wanted.class_id,
        class_name=wanted.class_name,
        clicks=wanted.clicks,
        box=wanted.box,
        has_mask=wanted.given is not None,
        answer=None if wanted.answer is None else wanted.answer.who,
    )


def scan_view(scan: Scan) -> dict[str, Any]:
    """A scan for people, without its path."""
    return {"case": scan.case, "state": scan.state, "has_labels": scan.has_labels}
