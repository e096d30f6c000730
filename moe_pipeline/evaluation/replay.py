"""What a person did in a session, done again: clicks, seconds and Dice of each object."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moe_pipeline.errors import GeometryError
from moe_pipeline.imaging.components import label_components
from moe_pipeline.imaging.overlap import dice
from moe_pipeline.imaging.volume import Volume
from moe_pipeline.inference.session.session import Session
from moe_pipeline.inference.session.state import SessionObject
from moe_pipeline.records.evaluation import ReplayedObject, ReplayedStep
from moe_pipeline.records.prompts import SessionEvent

PAUSE_SECONDS = 60.0
"""Most of a pause between two steps that counts as work."""
GOOD_DICE = 0.8
_NO_STEP = ("open", "accept")


@dataclass(frozen=True, slots=True)
class Replayed:
    """A session done again.

    Attributes:
        labels: in the end, on the image's own grid.
        objects: rows of objects.csv.
        steps: rows of steps.csv.
    """

    labels: Volume
    objects: tuple[ReplayedObject, ...]
    steps: tuple[ReplayedStep, ...]


class Reference:
    """What the objects of a case should look like.

    Args:
        case: its name.
        session: of its image.
        labels: class ids on the image's own grid; None if there is no reference.
        events: of the journal.

    Raises:
        GeometryError: if the reference lies on another grid than the image.
    """

    def __init__(self, case: str, session: Session, labels: Volume | None, events: Sequence[SessionEvent]) -> None:
        if labels is not None and (faults := labels.geometry.differences(session.native)):
            raise GeometryError(f"{case}: the reference lies on another grid than the image: {'; '.join(faults)}")
        self._session, self._labels = session, labels
        begun = [event.class_id for event in events if event.action == "new_object"]
        self._shared = {class_id for class_id in begun if begun.count(class_id) > 1}
        self._parts: dict[int, NDArray[np.integer[Any]]] = {}

    def dice(self, number: int) -> float:
        """Of an object as it is; NaN if there is no reference, or neither has a voxel.

        It is compared with its class; where several objects of a class were begun, with the connected parts of the
        class that its clicks inside hit, or else with the one that fills most of its box.
        """
        if self._labels is None:
            return float("nan")
        wanted = self._session.objects[number]
        target = self._labels.array == wanted.class_id
        if wanted.class_id in self._shared:
            numbers = self._numbers(wanted.class_id, target)
            hit = _hit(wanted, numbers)
            target = np.isin(numbers, list(hit)) if hit else target
        return dice(self._session.mask(number).array > 0, target)

    def _numbers(self, class_id: int, target: NDArray[np.bool_]) -> NDArray[np.integer[Any]]:
        """Connected parts of a class."""
        if class_id not in self._parts:
            self._parts[class_id], _ = label_components(target)
        return self._parts[class_id]


def _hit(wanted: SessionObject, numbers: NDArray[np.integer[Any]]) -> set[int]:
    """Connected parts that an object is about."""
    places = [tuple(np.rint(place).astype(int)) for place, inside in wanted.clicks if inside]
    hit = {int(numbers[place]) for place in places} - {0}
    if not hit and wanted.box is not None:
        first, last = np.rint(wanted.box).astype(int)
        counts = np.bincount(numbers[tuple(slice(a, b + 1) for a, b in zip(first, last, strict=True))].ravel())
        counts[0] = 0
        hit = {int(counts.argmax())} - {0}
    return hit


def replay_session(
    case: str,
    session: Session,
    events: Sequence[SessionEvent],
    masks: Callable[[str], Volume],
    labels: Volume | None = None,
) -> Replayed:
    """Do the steps of a journal again, asking after each of them.

    Args:
        case: its name.
        session: of its image, without a step.
        events: in their order.
        masks: reads a mask that the journal names.
        labels: reference on the image's own grid.

    Raises:
        PipelineError: if a step cannot be done, or the reference lies on another grid.
    """
    reference = Reference(case, session, labels, events)
    steps: list[ReplayedStep] = []
    for number, event in enumerate(events, start=1):
        began = time.monotonic()
        session.replay([event], masks)
        asked = time.monotonic() - began
        active = session.active
        known = event.action not in _NO_STEP and active and session.objects[active].answer is not None
        step = ReplayedStep(
            case=case,
            step=number,
            at_seconds=round(event.at - events[0].at, 3),
            action=event.action,
            object=active,
            answer_seconds=round(asked, 4),
            dice=round(reference.dice(active), 4) if known else float("nan"),
        )
        steps.append(step)
    objects = tuple(_object_row(event, session, reference, steps, case) for event in _begun(events))
    return Replayed(session.labels, objects, tuple(steps))


def _begun(events: Sequence[SessionEvent]) -> list[SessionEvent]:
    """The event that began each object, by number; of a number that was given twice, after an undo, the last one."""
    return list({event.object: event for event in events if event.action == "new_object"}.values())


def _object_row(
    begun: SessionEvent, session: Session, reference: Reference, steps: Sequence[ReplayedStep], case: str
) -> ReplayedObject:
    own = [step for step in steps if step.object == begun.object]
    prompts = [step for step in own if step.action in ("click", "box")]
    pauses = np.diff([0.0, *(step.at_seconds for step in steps)])
    spent = sum(min(max(pause, 0.0), PAUSE_SECONDS) for pause, step in zip(pauses, steps, strict=True) if step in own)
    good = next((number for number, step in enumerate(prompts, start=1) if step.dice >= GOOD_DICE), None)
    there = session.objects.get(begun.object)
    answer = there.answer.who if there is not None and there.answer is not None else None
    return ReplayedObject(
        case=case,
        object=begun.object,
        class_id=begun.class_id,
        class_name=begun.class_name,
        clicks=sum(step.action == "click" for step in own),
        boxes=sum(step.action == "box" for step in own),
        undone=sum(step.action == "undo" for step in own),
        seconds=round(float(spent), 2),
        dice=float("nan") if there is None else round(reference.dice(begun.object), 4),
        clicks_to_80=good,
        expert="" if answer is None else answer.expert,
        volume_ml=float("nan") if answer is None else answer.volume_ml,
        status="removed" if there is None else "ok",
    )
