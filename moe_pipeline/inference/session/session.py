"""A session: one image, its objects, and every step of a person who segments them."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from moe_pipeline.arguments import AnyPath, as_path
from moe_pipeline.errors import PipelineError, PromptError
from moe_pipeline.imaging.geometry import Box, Geometry
from moe_pipeline.imaging.volume import LoadedImage, Volume
from moe_pipeline.inference.interactive.segment_case import refuse_without_contrast
from moe_pipeline.inference.options import PLAIN, SegmentOptions
from moe_pipeline.inference.session.accepted import AcceptedCase, write_accepted
from moe_pipeline.inference.session.answering import answered
from moe_pipeline.inference.session.history import History
from moe_pipeline.inference.session.labels import ObjectParts, around, class_ids, numbers_in, where, whole
from moe_pipeline.inference.session.state import GivenMask, SessionObject, SessionState
from moe_pipeline.inference.session.steps import StepChecks
from moe_pipeline.inference.windows.embedding_cache import CropBank
from moe_pipeline.mixture.model import Mixture
from moe_pipeline.records.prompts import Action, ObjectPrompt, SessionEvent, Space, WhoAnswered

SESSION_BYTES = 96 << 20
"""Of embeddings that a session keeps; more are encoded again."""


@dataclass(frozen=True, slots=True)
class SessionChange:
    """What a step did.

    Attributes:
        object: number of the active object after it; 0 if there is none.
        box: half-open, in voxels of the image's own grid: all that changed in the label map; None if nothing did.
        answer: of the active object; None where nobody was asked.
        seconds: that it took.
    """

    object: int
    box: Box | None
    answer: WhoAnswered | None
    seconds: float


class Session:
    """Interactive segmentation of one image. Nothing is encoded before the first prompt.

    Prompts are about the active object; the first one begins an object of class 1 where there is none yet. Points are
    voxels (x, y, z) of the image's own grid unless `space` says otherwise. A mask is what `moe predict --own-crops`
    gives with the same prompts, voxel for voxel. Not safe for use from several threads at once.

    Args:
        mixture: who answers; other sessions may use it, too.
        image: to be segmented.
        case: its name, for messages.
        options: how objects are answered.
        most_bytes: of embeddings kept.
        listener: is told every step; one that it cannot take in is not done.

    Raises:
        ImageError: if all voxels of the image are equal.
    """

    def __init__(
        self,
        mixture: Mixture,
        image: LoadedImage,
        case: str = "image",
        options: SegmentOptions = PLAIN,
        *,
        most_bytes: int = SESSION_BYTES,
        listener: Callable[[SessionEvent], None] | None = None,
    ) -> None:
        refuse_without_contrast(case, image.volume)
        self.mixture, self.image, self.case = mixture, image, case
        self.options = replace(options, uncertainty=False)
        self.listener = listener
        self._checks = StepChecks(case, image.native)
        self._bank = CropBank(image.volume, mixture.foundation, mixture.device, tta=options.tta, most_bytes=most_bytes)
        self.events: tuple[SessionEvent, ...] = ()
        """Every step so far."""
        self._parts = ObjectParts()
        self._history = History()

    # What there is

    @property
    def native(self) -> Geometry:
        """The image's own grid."""
        return self.image.native

    @property
    def objects(self) -> Mapping[int, SessionObject]:
        """By number."""
        return self._state.objects

    @property
    def active(self) -> int:
        """Number of the object that prompts are about; 0 if there is none."""
        return self._state.active

    @property
    def can_undo(self) -> int:
        """Steps that can be undone."""
        return self._history.behind

    @property
    def can_redo(self) -> int:
        """Steps that can be done again."""
        return self._history.ahead

    @property
    def labels(self) -> Volume:
        """Class ids, uint8 or uint16, on the image's own grid."""
        return Volume(self.labels_in(whole(self.native)), self.native)

    def labels_in(self, box: Box) -> NDArray[np.uint8 | np.uint16]:
        """Class ids of a box of the image's own grid, (x, y, z)."""
        return self.image.part_as_stored(class_ids(self._state, self._numbers(self.image.box_as_canonical(box))))

    def mask(self, number: int | None = None) -> Volume:
        """One object, uint8 on the image's own grid, before others that overlap it take their part; the active one."""
        return Volume(self.mask_in(whole(self.native), number), self.native)

    def mask_in(self, box: Box, number: int | None = None) -> NDArray[np.uint8]:
        """As `mask`, of a box of the image's own grid, (x, y, z)."""
        wanted = self._object(number)
        held = numbers_in([wanted], self._parts, self.image.box_as_canonical(box)) > 0
        part: NDArray[np.uint8] = self.image.part_as_stored(held).astype(np.uint8)
        return part

    def prompts(self) -> tuple[ObjectPrompt, ...]:
        """All objects with prompts, as in prompts.json, in voxel_xyz."""
        return tuple(one.record() for one in self.objects.values() if one.can_be_asked or one.given is not None)

    @property
    def n_bytes(self) -> int:
        """Memory that the session holds, about: image, embeddings, masks, history."""
        held = sum(part.probability.nbytes for _, part in self._parts.parts.values())
        crops = sum(image.nbytes for crop in self._bank for image in crop.mirrored)
        return int(self.image.volume.array.nbytes) + crops + held + self._history.n_bytes

    # Steps

    def new_object(self, class_id: int | None = None, class_name: str = "") -> int:
        """Begin another object, which becomes the active one.

        Args:
            class_id: value in the label map, 1 to 65535; one above the highest so far if not given.
            class_name: for people.

        Returns:
            Its number.

        Raises:
            PromptError: if the id is none, or stands for another name.
        """
        if class_id is None:
            class_id = max((one.class_id for one in self.objects.values()), default=0) + 1
        event = self._event("new_object", object=self._state.numbers + 1, class_id=class_id, class_name=class_name)
        self._do(event)
        return event.object

    def select(self, number: int) -> None:
        """Make another object the active one."""
        self._do(self._event("select", object=self._object(number).number))

    def remove(self, number: int | None = None) -> SessionChange:
        """Take an object away, the active one unless a number is given."""
        return self._do(self._event("remove", object=self._object(number).number))

    def add_click(
        self, point: ArrayLike, inside: bool = True, *, space: Space = "voxel_xyz", run: bool = True
    ) -> SessionChange:
        """One more click at the active object.

        Args:
            point: (x, y, z).
            inside: whether it lies in the object.
            space: of the point.
            run: ask the model at once; else with the next step that does, or with `predict`.

        Raises:
            PromptError: if it lies outside the image.
        """
        return self._prompted("click", run=run, point=self._checks.click(point, space), inside=bool(inside))

    def add_box(
        self, first: ArrayLike, last: ArrayLike, *, space: Space = "voxel_xyz", run: bool = True
    ) -> SessionChange:
        """A box around the active object; together with an earlier one the box around both.

        Args:
            first: one corner (x, y, z); of indices, the first voxel.
            last: the opposite one; of indices, the last voxel.
            space: of the corners.
            run: as for `add_click`.

        Raises:
            PromptError: if it lies outside the image.
        """
        low, high = self._checks.box(first, last, space)
        if low == high:
            return self.add_click(low, run=run)
        return self._prompted("box", run=run, box=(low, high))

    def set_mask(self, mask: ArrayLike | Volume, name: str = "") -> SessionChange:
        """An earlier mask of the active object, instead of all its prompts: what later clicks correct.

        Args:
            mask: above 0 in the object, (x, y, z) on the image's own grid.
            name: of a file that it can be read from again, for the journal.

        Raises:
            PromptError: if it does not fill the image's grid.
        """
        given = self._checks.mask(mask)
        return self._prompted("mask", run=False, given=given, mask=name)

    def reset(self) -> SessionChange:
        """Take all prompts of the active object away."""
        return self._do(self._event("reset", object=self._object(None).number))

    def predict(self) -> SessionChange:
        """Ask the model where steps left that out."""
        began, before, earlier = time.monotonic(), self._state, ObjectParts(dict(self._parts.parts))
        self._history.replace(self._all_asked(before))
        return self._change(before, earlier, began)

    def undo(self, steps: int = 1) -> SessionChange:
        """Take steps back, as many as there are; also those of other objects."""
        return self._do(self._event("undo", steps=steps))

    def redo(self, steps: int = 1) -> SessionChange:
        """Do steps again that were undone."""
        return self._do(self._event("redo", steps=steps))

    def replay(self, events: Sequence[SessionEvent], masks: Callable[[str], Volume] | None = None) -> None:
        """Do the steps of a journal again without asking after each of them; the listener is not told.

        Args:
            events: in their order.
            masks: reads a mask by the name that the journal has for it, on the image's own grid.

        Raises:
            PipelineError: if a step cannot be done.
        """
        for event in events:
            if event.action == "mask":
                if masks is None:
                    raise PipelineError(f"{self.case}: the journal needs the mask {event.mask}, which is not at hand")
                self._history.push(self._checks.next_state(self._state, event, self._checks.mask(masks(event.mask))))
            else:
                self._step(event)
            self.events = (*self.events, event)
        self._history.replace(self._all_asked(self._state))

    def restart(self) -> None:
        """Forget all objects and steps, but not what the image looks like."""
        self._history, self._parts, self.events = History(), ObjectParts(), ()

    def accept(self, folder: AnyPath, *, image: AnyPath | None = None, channel_name: str = "image") -> Path:
        """Write the label map, prompts and journal into a dataset folder, all of it or nothing.

        The folder is one of nnU-Net's, which `moe plan` takes: dataset.json, imagesTr, labelsTr; and beside them
        prompts/<case>.json and journal/<case>.jsonl. A case that was accepted before is replaced.

        Args:
            folder: of the dataset, named like Dataset900_Liver; it is made if it is not there.
            image: file to copy into the dataset; where it is none in .nii.gz, the image is written anew.
            channel_name: of the image, in dataset.json.

        Returns:
            Path of the label map.

        Raises:
            PipelineError: if there is no object, a class contradicts those of the dataset, or a file is in the way that
                moe has not written.
        """
        self.predict()
        event = self._event("accept")
        done = AcceptedCase(self.case, self.image, self.labels, self.prompts(), (*self.events, event))
        path = write_accepted(
            as_path("folder", folder), done, None if image is None else as_path("image", image), channel_name
        )
        self.events = done.events
        return path

    # How

    @property
    def _state(self) -> SessionState:
        return self._history.state

    def _prompted(self, action: Action, *, run: bool, given: GivenMask | None = None, **fields: Any) -> SessionChange:
        if not self.active:
            self.new_object()
        return self._do(self._event(action, object=self.active, **fields), run=run, given=given)

    def _event(self, action: Action, **fields: Any) -> SessionEvent:
        try:
            return SessionEvent(action=action, at=round(time.time(), 3), **fields)
        except ValueError as error:
            raise PromptError(f"{self.case}: {action}: {fields} cannot be: {error}") from error

    def _do(self, event: SessionEvent, *, run: bool = True, given: GivenMask | None = None) -> SessionChange:
        """One step as a whole: where it fails, nothing has changed."""
        began, earlier = time.monotonic(), ObjectParts(dict(self._parts.parts))
        before, mark = self._state, self._history.mark()
        try:
            self._step(event, given)
            if run:
                self._history.replace(self._all_asked(self._state))
            change = self._change(before, earlier, began)
            told = event.model_copy(update={"seconds": round(change.seconds, 4), "answer": change.answer})
            if self.listener is not None:
                self.listener(told)
        except BaseException:
            self._history.back_to(mark)
            raise
        self.events = (*self.events, told)
        return change

    def _step(self, event: SessionEvent, given: GivenMask | None = None) -> None:
        match event.action:
            case "undo":
                self._history.undo(event.steps)
            case "redo":
                self._history.redo(event.steps)
            case "select":
                self._history.replace(replace(self._state, active=self._object(event.object).number))
            case "open" | "accept":
                pass
            case _:
                self._history.push(self._checks.next_state(self._state, event, given))

    def _all_asked(self, state: SessionState) -> SessionState:
        for wanted in state.objects.values():
            state = state.with_object(self._answered(wanted))
        return state

    def _answered(self, wanted: SessionObject) -> SessionObject:
        if wanted.asked or not wanted.can_be_asked:
            return wanted
        prompt = wanted.prompt(self.native, self.case)
        return answered(self.mixture, self._bank, wanted, prompt, self.options, self._parts)

    def _change(self, before: SessionState, earlier: ObjectParts, began: float) -> SessionChange:
        after = self._state
        old = {number: one for number, one in before.objects.items() if after.objects.get(number) is not one}
        new = {number: one for number, one in after.objects.items() if before.objects.get(number) is not one}
        boxes = [earlier.of(one).box for one in old.values()] + [self._parts.of(one).box for one in new.values()]
        box = around(boxes)
        if box is not None:
            was = class_ids(before, numbers_in(before.objects.values(), earlier, box))
            now = class_ids(after, self._numbers(box))
            box = where(was != now, box)
        for number in set(self._parts.parts) - set(after.objects):
            del self._parts.parts[number]
        active = after.objects.get(after.active)
        who = active.answer.who if active is not None and active.answer is not None else None
        stored = None if box is None else self.image.box_as_stored(box)
        return SessionChange(after.active, stored, who, time.monotonic() - began)

    def _numbers(self, box: Box) -> NDArray[np.uint16]:
        return numbers_in(self.objects.values(), self._parts, box)

    def _object(self, number: int | None) -> SessionObject:
        return self._checks.object_of(self._state, self.active if number is None else number)
