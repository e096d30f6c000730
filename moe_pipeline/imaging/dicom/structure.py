"""One structure of a DICOM object on the grid of an image."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moe_pipeline.imaging.geometry import Box, Geometry


@dataclass(frozen=True, slots=True, eq=False)
class Structure:
    """A mask, kept as the part of the grid that it fills, so that a hundred of them fit into memory."""

    name: str
    """As the file has it, without blanks at its ends."""
    geometry: Geometry
    """Grid of the whole image, as stored."""
    box: Box
    """Part of the grid that holds every voxel of the mask; may have empty sides if there is none."""
    part: NDArray[np.bool_]
    """Mask (x, y, z) of the box."""
    notes: tuple[str, ...] = ()
    """What does not lie on the grid, with figures."""

    @property
    def mask(self) -> NDArray[np.bool_]:
        """Mask (x, y, z) on the whole grid, a fresh array."""
        whole = np.zeros(self.geometry.shape, bool)
        whole[tuple(slice(*side) for side in self.box)] = self.part
        return whole

    @property
    def n_voxels(self) -> int:
        """Size of the mask."""
        return int(np.count_nonzero(self.part))


def structure_of_voxels(
    name: str, geometry: Geometry, voxels: NDArray[np.integer[Any]], notes: tuple[str, ...] = ()
) -> Structure:
    """A structure from the indices of its voxels.

    Args:
        name: of the structure.
        geometry: of the image.
        voxels: (n, 3) indices; those off the grid are left out, and said so in a note.
        notes: to begin with.
    """
    on_grid = ((voxels >= 0) & (voxels < geometry.shape)).all(axis=1)  # (n,)
    if not on_grid.all():
        n_off = len(voxels) - int(on_grid.sum())
        notes = (*notes, f"{name}: {n_off} of {len(voxels)} voxels lie outside the image and are left out")
        voxels = voxels[on_grid]
    if not len(voxels):
        return Structure(name, geometry, ((0, 0), (0, 0), (0, 0)), np.zeros((0, 0, 0), bool), notes)
    lowest, highest = voxels.min(axis=0), voxels.max(axis=0) + 1
    part = np.zeros(highest - lowest, bool, order="F")  # slice after slice, as they are used
    part[tuple((voxels - lowest).T)] = True
    x, y, z = ((int(start), int(stop)) for start, stop in zip(lowest, highest, strict=True))
    return Structure(name, geometry, (x, y, z), part, notes)
