"""Encoded crops of one case: each is encoded once and answers every prompt that it shows."""

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from moe_pipeline.imaging.crop_grid import CropGrid, WindowIndex
from moe_pipeline.imaging.views import extract_crop
from moe_pipeline.imaging.volume import Volume
from moe_pipeline.model.foundation import Foundation
from moe_pipeline.records.foundation import View

_GPU_BATCH = 4
_MOST_KEPT = 64
_Kept = TypeVar("_Kept")
MOST_BYTES = 512 << 20
"""Of embeddings that a prediction keeps; more are encoded again."""
FLIPS: tuple[tuple[int, ...], ...] = ((), (0,), (1,), (2,))
"""Axes of the crop that are mirrored in each look at it; the first look is the crop itself."""
ALL_AXES = (0, 1, 2)
"""Along which the general expert is shown mirror images: it names no side, and nano learnt from turned volumes."""


@dataclass(frozen=True, slots=True)
class EncodedCrop:
    """What the foundation knows of one crop.

    Attributes:
        crop_grid: of the view.
        start: first low-resolution voxel.
        mirrored: (1, C, *grid) each, in the order of `FLIPS`; only the first without flips.
        blank: whether the crop showed no contrast at all, so that nothing can be told from it.
    """

    crop_grid: CropGrid
    start: WindowIndex
    mirrored: tuple[Tensor, ...]
    blank: bool = False

    @property
    def embedding(self) -> Tensor:
        """Of the crop as it is, (1, C, *grid)."""
        return self.mirrored[0]


class CropBank:
    """The crops of one case so far.

    Args:
        image: in canonical orientation.
        foundation: its encoder is asked.
        device: where it lives.
        tta: also look at mirror images.
        most_bytes: of embeddings kept; more are encoded again.
    """

    def __init__(
        self,
        image: Volume,
        foundation: Foundation,
        device: torch.device,
        *,
        tta: bool = False,
        most_bytes: int = MOST_BYTES,
    ) -> None:
        self.most_bytes = most_bytes
        self.image = image
        self.foundation = foundation
        self.device = device
        self.flips = FLIPS if tta else FLIPS[:1]
        self.n_encoded = 0
        self._crop_grids: dict[View, CropGrid] = {}
        self._kept: OrderedDict[Hashable, Any] = OrderedDict()
        self._crops: OrderedDict[tuple[View, WindowIndex], EncodedCrop] = OrderedDict()

    def fits(self, image: Volume, foundation: Foundation, *, tta: bool) -> bool:
        """Whether these are crops of an image, seen by a foundation, with mirror images if those are wanted."""
        return self.image is image and self.foundation is foundation and tta == (len(self.flips) > 1)

    def without_mirrors(self) -> "CropBank":
        """Crops of the same case that are not mirrored; these ones, if none is."""
        return self if len(self.flips) == 1 else CropBank(self.image, self.foundation, self.device)

    def crop_grid(self, view: View) -> CropGrid:
        """The low-resolution voxels on which all crops of a view stand."""
        if view not in self._crop_grids:
            window = self.foundation.geometry.low_resolution_size
            self._crop_grids[view] = CropGrid(self.image.geometry, view, window)
        return self._crop_grids[view]

    def crop(self, view: View, start: WindowIndex) -> EncodedCrop:
        """One crop, encoded now unless it is there."""
        self.encode(view, [start])
        return self._crops[view, start]

    def encode(self, view: View, starts: Iterable[WindowIndex]) -> None:
        """Encode those crops that are not there yet, several at a time where that pays."""
        wanted = dict.fromkeys(starts)
        for start in wanted:
            if (view, start) in self._crops:
                self._crops.move_to_end((view, start))
        missing = [start for start in wanted if (view, start) not in self._crops]
        size = 1 if self.device.type == "cpu" else _GPU_BATCH
        batches = [missing[first : first + size] for first in range(0, len(missing), size)]
        crop_grid = self.crop_grid(view)
        if len(batches) == 1:
            self._add(crop_grid, missing, self._cubes(crop_grid, missing))
        elif batches:
            for batch, cubes in zip(batches, self._cut_ahead(crop_grid, batches), strict=True):
                self._add(crop_grid, batch, cubes)

    def _cut_ahead(self, crop_grid: CropGrid, batches: list[list[WindowIndex]]) -> Iterator[NDArray[np.float32]]:
        """The cubes of each batch, the next ones being cut out while the last ones are encoded."""
        with ThreadPoolExecutor(1, "crops") as cutter:
            upcoming = cutter.submit(self._cubes, crop_grid, batches[0])
            for following in batches[1:]:
                cubes = upcoming.result()
                upcoming = cutter.submit(self._cubes, crop_grid, following)
                yield cubes
            yield upcoming.result()

    def _cubes(self, crop_grid: CropGrid, starts: list[WindowIndex]) -> NDArray[np.float32]:
        return np.stack(
            [extract_crop(self.image, crop_grid.cube(start), crop_grid.view) for start in starts]
        )  # (b, *crop)

    def _add(self, crop_grid: CropGrid, starts: list[WindowIndex], cubes: NDArray[np.float32]) -> None:
        mirrored = [self._encode(cubes, axes) for axes in self.flips]
        for index, start in enumerate(starts):
            own = tuple(image[index : index + 1].clone() for image in mirrored)
            self._crops[crop_grid.view, start] = EncodedCrop(crop_grid, start, own, not cubes[index].any())
        self.n_encoded += len(starts)
        self._forget(len(starts))

    @torch.no_grad()
    def _encode(self, cubes: NDArray[np.float32], flipped: tuple[int, ...]) -> Tensor:
        images = torch.from_numpy(cubes)[:, None].to(self.device)  # (b, 1, *crop)
        embedding: Tensor = self.foundation.encode(images.flip([axis + 2 for axis in flipped]))
        return embedding  # (b, C, *grid)

    def _forget(self, n_new: int) -> None:
        """Drop the crops that were used longest ago, but none of the newest."""
        each = sum(image.nbytes for image in next(iter(self._crops.values())).mirrored)
        most = max(self.most_bytes // each, n_new)
        while len(self._crops) > most:
            self._crops.popitem(last=False)

    def once(self, key: Hashable, work: Callable[[], _Kept]) -> _Kept:
        """What some work on these crops gives, done again only if it was long ago; the key says all it depends on."""
        if key not in self._kept:
            self._kept[key] = work()
            if len(self._kept) > _MOST_KEPT:
                self._kept.popitem(last=False)
        found: _Kept = self._kept[key]
        return found

    def __iter__(self) -> Iterator[EncodedCrop]:
        return iter(self._crops.values())

    def __len__(self) -> int:
        return len(self._crops)
