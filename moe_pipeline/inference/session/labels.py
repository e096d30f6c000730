"""The label map of a session's objects, all of it or a box of it: the same voxels that a prediction writes."""

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from moe_pipeline.imaging.geometry import Box, Geometry
from moe_pipeline.inference.interactive.mixture_mask import MixtureMask
from moe_pipeline.inference.session.state import SessionObject


@dataclass(frozen=True, slots=True, eq=False)
class MaskPart:
    """An object's mask, where it is.

    Attributes:
        box: of the canonical grid; without extent where there is no mask.
        probability: float32, the box's shape, 0 outside the mask and above 0.5 in it.
    """

    box: Box
    probability: NDArray[np.float32]


NO_MASK = MaskPart(((0, 0), (0, 0), (0, 0)), np.zeros((0, 0, 0), np.float32))


@dataclass(slots=True, eq=False)
class ObjectParts:
    """The masks of the objects of a state, worked out once for each answer.

    Attributes:
        parts: by number of the object, with the answer or mask that it is of.
    """

    parts: dict[int, tuple[object, MaskPart]] = field(default_factory=dict)

    def of(self, wanted: SessionObject) -> MaskPart:
        """The mask of one object."""
        source = wanted.given if wanted.answer is None else wanted.answer
        known = self.parts.get(wanted.number)
        if known is None or known[0] is not source:
            self.parts[wanted.number] = known = source, _part(wanted)
        return known[1]


def labels_in(objects: Iterable[SessionObject], parts: ObjectParts, box: Box) -> NDArray[np.uint8 | np.uint16]:
    """Class id of the object that each voxel of a box of the canonical grid belongs to, 0 for none.

    Where masks overlap the higher probability wins, and of equals the first object. uint16 where an id is above 255.
    """
    held = [(wanted.class_id, parts.of(wanted)) for wanted in objects]
    dtype = np.uint8 if max((class_id for class_id, _ in held), default=0) <= np.iinfo(np.uint8).max else np.uint16
    shape = tuple(stop - start for start, stop in box)
    labels: NDArray[np.uint8 | np.uint16] = np.zeros(shape, dtype, order="F")
    highest: NDArray[np.float32] | None = None
    for index, (class_id, part) in enumerate(held):
        here, there = _shared(box, part.box)
        mask = part.probability[there]
        if index == 0:
            np.multiply(mask > 0, dtype(class_id), out=labels[here])
        else:
            highest = _first(shape, held[0][1], box) if highest is None else highest
            np.copyto(labels[here], class_id, where=mask > highest[here])
            np.maximum(highest[here], mask, out=highest[here])
    return labels


def whole(grid: Geometry) -> Box:
    """All voxels of a grid."""
    x, y, z = grid.shape
    return (0, x), (0, y), (0, z)


def around(boxes: Iterable[Box]) -> Box | None:
    """The smallest box that holds those with an extent; None if none has one."""
    sides = np.array([box for box in boxes if all(start < stop for start, stop in box)])  # (b, 3, 2)
    if not len(sides):
        return None
    x, y, z = zip(sides[..., 0].min(axis=0).tolist(), sides[..., 1].max(axis=0).tolist(), strict=True)
    return x, y, z


def where(differs: NDArray[np.bool_], box: Box) -> Box | None:
    """The box around the voxels of a box that are True."""
    ends = []
    for axis, (start, _) in enumerate(box):
        along = np.flatnonzero(differs.any(axis=tuple(other for other in range(3) if other != axis)))
        if not along.size:
            return None
        ends.append((start + int(along[0]), start + int(along[-1]) + 1))
    return ends[0], ends[1], ends[2]


def _part(wanted: SessionObject) -> MaskPart:
    if wanted.answer is not None:
        return NO_MASK if wanted.answer.mask is None else _of_answer(wanted.answer.mask)
    if wanted.given is not None:
        return MaskPart(wanted.given.box, wanted.given.labels.array.astype(np.float32))
    return NO_MASK


def _of_answer(answer: MixtureMask) -> MaskPart:
    slabs = list(answer.slabs(above=0.0))
    box = around(slab.box for slab in slabs)
    if box is None:
        return NO_MASK
    corner = [start for start, _ in box]
    probability = np.zeros([stop - start for start, stop in box], np.float32, order="F")
    for slab in slabs:
        place = tuple(slice(a - first, b - first) for (a, b), first in zip(slab.box, corner, strict=True))
        np.multiply(slab.probability, slab.probability > 0.5, out=probability[place])
    return MaskPart(box, probability)


def _first(shape: tuple[int, ...], part: MaskPart, box: Box) -> NDArray[np.float32]:
    """The probability of the first object in a box."""
    highest = np.zeros(shape, np.float32, order="F")
    here, there = _shared(box, part.box)
    highest[here] = part.probability[there]
    return highest


Slices = tuple[slice, slice, slice]


def _shared(box: Box, other: Box) -> tuple[Slices, Slices]:
    """Where two boxes overlap, in each of them."""
    here, there = [], []
    for (start, stop), (first, last) in zip(box, other, strict=True):
        low, high = max(start, first), min(stop, last)
        high = max(low, high)
        here.append(slice(low - start, high - start))
        there.append(slice(low - first, high - first))
    if any(one.start == one.stop for one in here):
        nothing = slice(0, 0)
        return (nothing,) * 3, (nothing,) * 3
    return (here[0], here[1], here[2]), (there[0], there[1], there[2])
