"""What there is to see in a session."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from moe_pipeline.imaging.geometry import Box, Geometry
from moe_pipeline.imaging.volume import Volume
from moe_pipeline.inference.session.course import SessionCourse
from moe_pipeline.inference.session.labels import labels_in, whole
from moe_pipeline.inference.session.state import SessionObject
from moe_pipeline.records.prompts import ObjectPrompt


class ShownSession(SessionCourse):
    """Objects, masks and label map of a session as it is now. Args as of `SessionCourse`."""

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
        return self.image.part_as_stored(
            labels_in(self.objects.values(), self._parts, self.image.box_as_canonical(box))
        )

    def mask(self, number: int | None = None) -> Volume:
        """One object, uint8 on the image's own grid, before others that overlap it take their part; the active one."""
        return Volume(self.mask_in(whole(self.native), number), self.native)

    def mask_in(self, box: Box, number: int | None = None) -> NDArray[np.uint8]:
        """As `mask`, of a box of the image's own grid, (x, y, z)."""
        wanted = self._object(number)
        held = labels_in([wanted], self._parts, self.image.box_as_canonical(box)) > 0
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
