"""A session: one image, its objects, and every step of a person who segments them."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from numpy.typing import ArrayLike

from moe_pipeline.arguments import AnyPath, as_path
from moe_pipeline.errors import PromptError
from moe_pipeline.imaging.volume import LoadedImage, Volume
from moe_pipeline.inference.options import PLAIN, SegmentOptions
from moe_pipeline.inference.session.accepted import AcceptedCase, write_accepted
from moe_pipeline.inference.session.change import SessionChange
from moe_pipeline.inference.session.shown import ShownSession
from moe_pipeline.inference.session.state import GivenMask
from moe_pipeline.mixture.model import Mixture
from moe_pipeline.records.prompts import Action, SessionEvent, Space

SESSION_BYTES = 96 << 20
"""Of embeddings that a session keeps; more are encoded again."""


class Session(ShownSession):
    """Interactive segmentation of one image. Nothing is encoded before the first prompt.

    Prompts are about the active object; the first one begins an object of class 1 where there is none yet. Points are
    voxels (x, y, z) of the image's own grid unless `space` says otherwise. Masks are what `moe predict` gives with the
    session's `prompts`, voxel for voxel. Not safe for use from several threads at once.

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
        super().__init__(mixture, image, case, options, most_bytes, listener)

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

    def undo(self, steps: int = 1) -> SessionChange:
        """Take steps back, as many as there are; also those of other objects."""
        return self._do(self._event("undo", steps=steps))

    def redo(self, steps: int = 1) -> SessionChange:
        """Do steps again that were undone."""
        return self._do(self._event("redo", steps=steps))

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

    def _prompted(self, action: Action, *, run: bool, given: GivenMask | None = None, **fields: Any) -> SessionChange:
        if not self.active:
            self.new_object()
        return self._do(self._event(action, object=self.active, **fields), run=run, given=given)

    def _event(self, action: Action, **fields: Any) -> SessionEvent:
        try:
            return SessionEvent(action=action, at=round(time.time(), 3), **fields)
        except ValueError as error:
            raise PromptError(f"{self.case}: {action}: {fields} cannot be: {error}") from error
