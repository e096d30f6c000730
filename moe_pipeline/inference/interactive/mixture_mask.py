"""The mixture's answer for one object, brought to the image's voxels only when and where it is asked for."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from moe_pipeline.imaging.geometry import Box, Geometry
from moe_pipeline.inference.interactive.decoder_session import DecoderOutput
from moe_pipeline.inference.windows.stitch import FAR_OUTSIDE, StitchedLogits
from moe_pipeline.inference.windows.to_image import ProbabilityMap, image_box, logits_in, slabs
from moe_pipeline.model.moe.selector import mix


@dataclass(frozen=True, slots=True)
class Slab:
    """A part of an answer, in voxels of the image.

    Attributes:
        box: half-open voxel intervals.
        probability: float32, the box's shape.
        disagreement: |expert - general|, the same shape; None where only one was asked.
    """

    box: Box
    probability: NDArray[np.float32]
    disagreement: NDArray[np.float32] | None

    @property
    def place(self) -> tuple[slice, slice, slice]:
        """The box as slices."""
        x, y, z = (slice(*side) for side in self.box)
        return x, y, z


@dataclass(frozen=True, slots=True)
class MixtureMask:
    """What one or two decoders answered.

    Attributes:
        image: canonical grid.
        output: of the general expert, the expert, or both in this order.
        weight: of the expert's mask.
    """

    image: Geometry
    output: tuple[DecoderOutput, ...]
    weight: float

    def slabs(self, above: float | None) -> Iterator[Slab]:
        """The answer piece by piece, so that no more than a piece is ever held at the image's size.

        Args:
            above: leave out what lies surely not above this logit; None for all that was seen.
        """
        box = self._box([output.stitched for output in self.output], above)
        if box is None:
            return
        for part in slabs(box):
            maps = [self._probability(output.stitched, part) for output in self.output]
            if len(maps) == 1:
                yield Slab(part, maps[0].numpy(), None)
            else:
                mixed = mix(maps[1], maps[0], self.weight)
                yield Slab(part, mixed.numpy(), (maps[1] - maps[0]).abs().numpy())

    def whole(self) -> ProbabilityMap:
        """All of it at once, wherever somebody looked: what a user corrects."""
        box = self._box([stitched for output in self.output for stitched in (output.seen, output.stitched)], None)
        assert box is not None, "a crop beyond the image"
        corner = [start for start, _ in box]
        values = np.zeros([stop - start for start, stop in box], np.float32, order="F")
        for slab in self.slabs(None):
            place = tuple(slice(a - first, b - first) for (a, b), first in zip(slab.box, corner, strict=True))
            values[place] = slab.probability
        return ProbabilityMap(box, values)

    def _probability(self, stitched: StitchedLogits, box: Box) -> torch.Tensor:
        return torch.from_numpy(logits_in(stitched, self.image, box, FAR_OUTSIDE)).sigmoid()

    def _box(self, parts: list[StitchedLogits], above: float | None) -> Box | None:
        boxes = [box for stitched in parts if (box := image_box(stitched, self.image, above)) is not None]
        if not boxes:
            return None
        sides = np.array(boxes)  # (b, 3, 2)
        x, y, z = zip(sides[..., 0].min(axis=0).tolist(), sides[..., 1].max(axis=0).tolist(), strict=True)
        return x, y, z
