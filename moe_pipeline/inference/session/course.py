"""What becomes of a session step by step: each one is done as a whole, or not at all."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from moe_pipeline.errors import PipelineError
from moe_pipeline.imaging.volume import LoadedImage, Volume
from moe_pipeline.inference.interactive.segment_case import refuse_without_contrast
from moe_pipeline.inference.options import SegmentOptions
from moe_pipeline.inference.session.answering import answered
from moe_pipeline.inference.session.change import SessionChange, changed_box
from moe_pipeline.inference.session.history import History
from moe_pipeline.inference.session.labels import ObjectParts
from moe_pipeline.inference.session.state import GivenMask, SessionObject, SessionState
from moe_pipeline.inference.session.steps import StepChecks
from moe_pipeline.inference.windows.embedding_cache import CropBank
from moe_pipeline.mixture.model import Mixture
from moe_pipeline.records.prompts import SessionEvent


class SessionCourse:
    """The states of a session, and what leads from one to the next.

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
        case: str,
        options: SegmentOptions,
        most_bytes: int,
        listener: Callable[[SessionEvent], None] | None,
    ) -> None:
        refuse_without_contrast(case, image.volume)
        self.mixture, self.image, self.case = mixture, image, case
        self.options = replace(options, uncertainty=False)
        self.listener = listener
        self._checks = StepChecks(case, image.native)
        self._bank = CropBank(image.volume, mixture.foundation, mixture.device, tta=options.tta, most_bytes=most_bytes)
        self.restart()

    def restart(self) -> None:
        """Forget all objects and steps, but not what the image looks like."""
        self._history, self._parts = History(), ObjectParts()
        self.events: tuple[SessionEvent, ...] = ()
        """Every step so far."""

    def predict(self) -> SessionChange:
        """Ask the model where steps left that out."""
        began, before, earlier = time.monotonic(), self._state, ObjectParts(dict(self._parts.parts))
        self._history.replace(self._all_asked(before))
        return self._change(before, earlier, began)

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

    @property
    def _state(self) -> SessionState:
        return self._history.state

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
        prompt = wanted.prompt(self.image.native, self.case)
        return answered(self.mixture, self._bank, wanted, prompt, self.options, self._parts)

    def _change(self, before: SessionState, earlier: ObjectParts, began: float) -> SessionChange:
        after = self._state
        box = changed_box(before, earlier, after, self._parts)
        for number in set(self._parts.parts) - set(after.objects):
            del self._parts.parts[number]
        active = after.objects.get(after.active)
        who = active.answer.who if active is not None and active.answer is not None else None
        stored = None if box is None else self.image.box_as_stored(box)
        return SessionChange(after.active, stored, who, time.monotonic() - began)

    def _object(self, number: int | None) -> SessionObject:
        return self._checks.object_of(self._state, self._state.active if number is None else number)
