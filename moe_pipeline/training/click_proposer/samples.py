"""The samples of a click proposer: embeddings, where to click in them, and which classes they do not show."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from moe_pipeline.embeddings.cache import EmbeddingCache
from moe_pipeline.imaging.components import label_components
from moe_pipeline.records.foundation import Sides


def click_target(mask: NDArray[np.bool_], sides: Sides, power: float) -> NDArray[np.float32]:
    """A distribution over the voxels of a coarse grid: the share of each in the depth of the mask.

    A voxel counts by its distance from the border over the largest one of its connected part, to some power: so each
    part has its hottest place where it is thickest. Where the crop cuts an object, its face is no border.

    Args:
        mask: (*crop), not empty.
        sides: low-resolution voxels along each axis; divide the crop's.
        power: the higher, the closer to the thickest place.

    Returns:
        (*sides), summing to 1.
    """
    low, high = _box(mask)
    part = mask[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]
    depth = distance_transform_edt(part)
    numbers, _ = label_components(part)
    thickest = np.zeros(int(numbers.max()) + 1)
    np.maximum.at(thickest, numbers.ravel(), depth.ravel())
    thickest[0] = 1.0
    weights = np.zeros(mask.shape, np.float32)
    weights[tuple(slice(a, b) for a, b in zip(low, high, strict=True))] = (depth / thickest[numbers]) ** power
    blocks = [n for side, voxels in zip(sides, mask.shape, strict=True) for n in (side, voxels // side)]
    low_res_voxels = weights.reshape(blocks).sum(axis=(1, 3, 5), dtype=np.float64)
    target: NDArray[np.float32] = (low_res_voxels / low_res_voxels.sum()).astype(np.float32)
    return target


def _box(mask: NDArray[np.bool_]) -> tuple[list[int], list[int]]:
    """The mask's box with one voxel of its surroundings, where the crop has any."""
    where = [np.flatnonzero(mask.any(axis=tuple({0, 1, 2} - {axis}))) for axis in range(3)]
    low = [max(int(places[0]) - 1, 0) for places in where]
    high = [min(int(places[-1]) + 2, side) for places, side in zip(where, mask.shape, strict=True)]
    return low, high


_SLIVER = 0.05  # of a class's usual size in a crop: what shows less of it neither has the class nor lacks it

SeenCrop = tuple[Tensor, NDArray[np.integer]]
"""Embedding (C, *grid) float16 and labels (*crop)."""


@dataclass(frozen=True, slots=True)
class Samples:
    """Crops with what is to be proposed on them, n in all.

    Attributes:
        embedding: (n, C, *grid) float16.
        target: (n, K, places + 1) float16, distributions as `ClickProposer` gives them.
        counts: (n, K) voxels of each class.
        voxels: to validate with: by sample and class the (m, 3) voxels of the class; else empty.
    """

    embedding: Tensor
    target: Tensor
    counts: Tensor
    voxels: tuple[tuple[NDArray[np.int16], ...], ...] = ()

    def __len__(self) -> int:
        return len(self.embedding)

    def usual_counts(self) -> Tensor:
        """Median voxels of each class in the crops that show it, (K,); 0 for a class that none shows."""
        columns = [column[column > 0] for column in self.counts.float().unbind(1)]
        return torch.stack([c.median() if len(c) else torch.zeros(()) for c in columns])

    def known(self, usual: Tensor) -> Tensor:
        """Which classes are plainly there or plainly not, (n, K) bool."""
        return (self.counts == 0) | (self.counts >= _SLIVER * usual)


def make_samples(
    crops: Iterable[SeenCrop],
    classes: Sequence[int],
    width: int,
    sides: Sides,
    power: float,
    *,
    with_voxels: bool = False,
) -> Samples:
    """Turn crops into samples, one after the other, so that few labels are held at once.

    Args:
        crops: at least one.
        classes: what the click proposer looks for.
        width: channels of the embeddings that the click proposer looks at.
        sides: low-resolution voxels of the heat map along each axis.
        power: see `click_target`.
        with_voxels: keep the places of the classes, to validate with.
    """
    embeddings, targets, counts, voxels = [], [], [], []
    for embedding, labels in crops:
        masks = [labels == c for c in classes]
        counts.append(torch.tensor([int(mask.sum()) for mask in masks]))
        targets.append(torch.stack([_target(mask, sides, power) for mask in masks]))  # (K, places + 1)
        embeddings.append(embedding[:width].half().clone())  # not a view, which would hold the rest
        if with_voxels:
            voxels.append(tuple(np.argwhere(mask).astype(np.int16) for mask in masks))
    return Samples(torch.stack(embeddings), torch.stack(targets), torch.stack(counts), tuple(voxels))


def cached_crops(cache: EmbeddingCache, numbers: Sequence[int]) -> Iterator[SeenCrop]:
    """Samples of an embedding cache by their numbers."""
    for number in numbers:
        sample = cache.load(number)
        yield sample.embedding, sample.labels


def _target(mask: NDArray[np.bool_], sides: Sides, power: float) -> Tensor:
    target = torch.zeros(prod(sides) + 1)
    if mask.any():
        target[:-1] = torch.from_numpy(click_target(mask, sides, power)).flatten()
    else:
        target[-1] = 1.0
    return target.half()
