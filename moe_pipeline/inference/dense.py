"""An earlier mask as the decoders take it: the logits that they would have said."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from moe_pipeline.imaging.lattice import CellLattice, Start
from moe_pipeline.imaging.resampling import resample
from moe_pipeline.imaging.volume import Volume

INSIDE, OUTSIDE = 1.0, -1.0
"""Logits of a cell wholly inside and wholly outside. With the built-in foundation no other pair tried did better."""


@dataclass(frozen=True, slots=True)
class DensePrompt:
    """One class of a label map.

    Attributes:
        labels: on any grid.
        class_id: the class.
    """

    labels: Volume
    class_id: int

    def logits(self, lattice: CellLattice, start: Start) -> NDArray[np.float32]:
        """What a window's decoder would have said, (l, l, l): by the part of each cell that the mask fills."""
        labels = resample(self.labels, lattice.cube(start), order="nearest", outside=0).array
        n, side = lattice.window, lattice.cell_voxels
        filled = (labels == self.class_id).reshape(n, side, n, side, n, side).mean(axis=(1, 3, 5))  # (l, l, l)
        return np.asarray(OUTSIDE + (INSIDE - OUTSIDE) * filled, dtype=np.float32)
