"""An expert's click proposer in memory, and its first look over a whole scan."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from numpy.typing import NDArray

from moe_pipeline.imaging.components import label_components
from moe_pipeline.imaging.crop_grid import CropGrid, WindowIndex
from moe_pipeline.model.moe.click_proposer import best_place, neighbourhood
from moe_pipeline.records.foundation import Sides

_OVERLAP = 0.25  # of the crop's edges, between neighbouring windows
_WARM = 0.3  # of the hottest neighbourhood: what else may be an object of the class


def covering_windows(crop_grid: CropGrid, steps: Sides) -> list[WindowIndex]:
    """Windows that overlap and cover an image.

    Args:
        crop_grid: of the view.
        steps: the windows lie these many low-resolution voxels apart along each axis, or a multiple of it.
    """
    axes = []
    ends = zip(crop_grid.lowest.tolist(), crop_grid.highest.tolist(), crop_grid.window, steps, strict=True)
    for low, high, side, step in ends:
        way = -(-(high - low) // step)  # steps from the first window to the last
        count = -(-way // max(1, int(side * (1 - _OVERLAP)) // step)) + 1
        axes.append([low + step * place for place in np.linspace(0, way, count).round().astype(int).tolist()])
    return list(product(*axes))


@dataclass(frozen=True, slots=True)
class HeatGrid:
    """The voxels of heat maps over a whole image; each is some low-resolution voxels of the crop grid wide.

    Attributes:
        crop_grid: of the expert's view.
        sides: voxels of a heat map along the edges of a window.
    """

    crop_grid: CropGrid
    sides: Sides

    @property
    def steps(self) -> Sides:
        """Low-resolution voxels of the crop grid along the edges of one voxel of the heat map."""
        x, y, z = (low // side for low, side in zip(self.crop_grid.window, self.sides, strict=True))
        return x, y, z

    @property
    def low_res_mm(self) -> float:
        """Longest edge of a voxel of heat."""
        return max(step * mm for step, mm in zip(self.steps, self.crop_grid.geometry.spacing_mm, strict=True))

    def windows(self) -> list[WindowIndex]:
        """Windows that overlap and cover the image, each on whole low-resolution voxels of heat."""
        return covering_windows(self.crop_grid, self.steps)

    def combined(self, heats: dict[WindowIndex, NDArray[np.float32]]) -> NDArray[np.float32]:
        """Mean of the windows' heat (*G) over the whole image, the less weight the nearer a window's face."""
        first = self.crop_grid.lowest
        last = np.array(list(heats)).max(axis=0)
        total = np.zeros((last - first) // self.steps + self.sides, np.float32)
        weights = np.zeros_like(total)
        x, y, z = (1 - np.abs(np.arange(side) - (side - 1) / 2) / ((side + 1) / 2) for side in self.sides)
        importance = (x[:, None, None] * y[:, None] * z).astype(np.float32)
        for start, heat in heats.items():
            at = ((np.asarray(start) - first) // self.steps).tolist()
            place = tuple(slice(a, a + side) for a, side in zip(at, self.sides, strict=True))
            total[place] += importance * heat
            weights[place] += importance
        return np.divide(total, weights, out=total, where=weights > 0)

    def place_mm(self, voxel: NDArray[np.floating], start: NDArray[np.integer] | WindowIndex) -> NDArray[np.float64]:
        """RAS world of a fractional voxel of heat (3,), counted from a window's first low-resolution voxel."""
        low_res_voxel = np.asarray(start) + np.asarray(self.steps) * (voxel + 0.5) - 0.5
        return self.crop_grid.geometry.voxel_to_world(low_res_voxel)


def hottest(heat: NDArray[np.float32], most: int) -> Iterator[NDArray[np.float64]]:
    """Where the objects of a class seem to be: one place in each connected warm part, the likeliest first.

    Args:
        heat: (X, Y, Z).
        most: places at most.

    Yields:
        Fractional low-resolution voxels (3,).
    """
    near = neighbourhood(torch.from_numpy(heat)).numpy()
    parts, _ = label_components(near > _WARM * near.max())
    numbers = [int(n) for n in np.unique(parts) if n]
    numbers.sort(key=lambda n: -float(near[parts == n].max()))
    for number in numbers[:most]:
        own = torch.from_numpy(np.where(parts == number, heat, 0.0).astype(np.float32))
        yield best_place(own[None])[0].double().numpy()
