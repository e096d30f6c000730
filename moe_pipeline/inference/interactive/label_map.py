"""The label map of a case while its objects come in, and the uncertainty beside it."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from moe_pipeline.imaging.geometry import Geometry
from moe_pipeline.imaging.volume import Volume
from moe_pipeline.inference.interactive.mixture_mask import MixtureMask, Slab

_FULL = 255  # stands for 1
_LEAST_LOGIT = -6.3  # below, a probability is nearer to 0 than to 1 / 255


class LabelMapBuilder:
    """The label map so far, and the highest probability that stands in each voxel.

    Memory comes from the system page by page as it is written to, so it grows with the objects, not with the image.

    Args:
        image: canonical grid.
        highest: largest class id to come, or the number of objects if there are more.
        uncertainty: also keep a map of how far the answers can be trusted.
    """

    def __init__(self, image: Geometry, highest: int, *, uncertainty: bool = False) -> None:
        self.geometry = image
        dtype = np.uint8 if highest <= np.iinfo(np.uint8).max else np.uint16
        self.classes = [0]
        """Class id of each object by its number; objects count from 1, so that two of one class stay two."""
        self.objects: NDArray[np.uint8 | np.uint16] = np.zeros(image.shape, dtype, order="F")
        self.highest: NDArray[np.float32] = np.zeros(image.shape, np.float32, order="F")
        self.doubt: NDArray[np.uint8] | None = np.zeros(image.shape, np.uint8, order="F") if uncertainty else None

    def add(self, class_id: int, answer: MixtureMask) -> None:
        """Take in one object: where masks overlap the higher probability wins, and of equals the first."""
        self.classes.append(class_id)
        for slab in answer.slabs(above=0.0 if self.doubt is None else _LEAST_LOGIT):
            wins = (slab.probability > 0.5) & (slab.probability > self.highest[slab.place])
            self.objects[slab.place][wins] = len(self.classes) - 1
            self.highest[slab.place][wins] = slab.probability[wins]
            if self.doubt is not None:
                doubt = self.doubt[slab.place]
                np.maximum(doubt, _doubt(slab), out=doubt)

    def volumes_ml(self) -> list[float]:
        """Of each object, in the order in which they came, what is left of it in the label map."""
        counts = np.zeros(len(self.classes), np.int64)
        for layer in self.objects.T:  # layer by layer: numpy counts in 64 bits
            counts += np.bincount(layer.ravel(), minlength=len(counts))
        return [int(count) * self.geometry.voxel_ml for count in counts[1:]]

    def labels(self) -> Volume:
        """The label map; it takes the place of the objects in memory, so nothing can be added or measured after it."""
        table = np.array(self.classes, self.objects.dtype)
        for layer in self.objects.T:
            if layer.any():
                layer[...] = table[layer]
        return Volume(self.objects, self.geometry)

    def uncertainty(self) -> Volume | None:
        """0 (certain) to 255, the most doubtful object in each voxel; None if it was not asked for."""
        return None if self.doubt is None else Volume(self.doubt, self.geometry)


def probability_map(image: Geometry, answers: Iterable[MixtureMask]) -> Volume:
    """The highest probability of several objects, 0 to 255 for 0 to 1.

    Args:
        image: canonical grid.
        answers: of the objects of one class.
    """
    highest = np.zeros(image.shape, np.uint8, order="F")
    for answer in answers:
        for slab in answer.slabs(above=_LEAST_LOGIT):
            here = highest[slab.place]
            np.maximum(here, np.rint(_FULL * slab.probability).astype(np.uint8), out=here)
    return Volume(highest, image)


def _doubt(slab: Slab) -> NDArray[np.uint8]:
    """How undecided the answer is, or how far the decoders disagree, whichever is more."""
    doubt = 1 - np.abs(2 * slab.probability - 1)
    if slab.disagreement is not None:
        doubt = np.maximum(doubt, slab.disagreement)
    rounded: NDArray[np.uint8] = np.rint(_FULL * doubt).astype(np.uint8)
    return rounded
