"""Intensities of many voxels in few numbers, slab by slab: a whole-body scan is never copied."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from moe_pipeline.imaging.components import Region
from moe_pipeline.imaging.volume import Volume
from moe_pipeline.records.planning import ChannelMeasures, Intensity

_EDGES = np.concatenate(
    [np.linspace(0, 0.02, 20, endpoint=False), np.linspace(0.02, 0.98, 160, endpoint=False), np.linspace(0.98, 1, 21)]
)  # of the shares that the numbers stand for: narrow in the tails, whose percentiles we report
_MIDDLES, _SHARES = (_EDGES[1:] + _EDGES[:-1]) / 2, np.diff(_EDGES)


def sketch(values: NDArray[Any]) -> NDArray[np.float64]:
    """(200,) quantiles of some values, at least one."""
    return np.asarray(np.quantile(values, _MIDDLES), dtype=np.float64)


def pooled_percentiles(sketches: Sequence[ArrayLike], percentiles: Sequence[float]) -> NDArray[np.float64]:
    """Percentiles of the union of distributions that all count the same."""
    values = np.concatenate([np.asarray(one, dtype=np.float64) for one in sketches])
    order = np.argsort(values)
    weights = np.tile(_SHARES, len(sketches))[order]
    below = np.cumsum(weights) - weights / 2
    wanted = np.asarray(percentiles) / 100 * weights.sum()
    return np.asarray(np.interp(wanted, below, values[order]))


_THINNED = 200_000  # voxels; enough for whole-image statistics
_KEPT = 1_000_000  # voxels at least, of more, that percentiles are taken from
_SLAB_VOXELS = 4_000_000
_PERCENTILES = (0.5, 5, 50, 95, 99.5)
_Slices = tuple[slice, slice, slice]


@dataclass(slots=True)
class _Tally:
    """Count, mean and variance of all voxels that were added, and every n-th of them."""

    every: int
    """Of the voxels, one in so many is kept."""
    count: int = 0
    mean: float = 0.0
    squares: float = 0.0
    """Sum of squared differences from the mean."""
    kept: list[NDArray[Any]] = field(default_factory=list)

    def add(self, values: NDArray[Any]) -> None:
        """Some more voxels; sums of two groups are joined exactly."""
        if values.size == 0:
            return
        mean, squares = float(values.mean(dtype=np.float64)), float(values.var(dtype=np.float64)) * values.size
        count = self.count + values.size
        shift = mean - self.mean
        self.squares += squares + shift**2 * self.count * values.size / count
        self.mean += shift * values.size / count
        self.count = count
        self.kept.append(values[:: self.every].copy())

    def sample(self) -> NDArray[Any]:
        """The voxels that were kept."""
        return np.concatenate(self.kept)

    def summary(self) -> Intensity:
        """The distribution; at least one voxel must have been added."""
        return intensity_of(self.mean, np.sqrt(self.squares / self.count), np.percentile(self.sample(), _PERCENTILES))


def measure_channel(
    volume: Volume, label: NDArray[np.integer[Any]], classes: dict[int, Region]
) -> tuple[ChannelMeasures, dict[int, Intensity]]:
    """Intensities of the whole image, of the foreground and of each class.

    Args:
        volume: one channel, canonical.
        label: (x, y, z) on the same grid.
        classes: where each class is.
    """
    image = summarise_intensity(thinned(volume.array).ravel())
    if not classes:
        return ChannelMeasures(image=image), {}
    foreground = _Tally(_every(sum(region.voxels for region in classes.values())))
    by_class = {}
    for value, region in classes.items():
        tally = _Tally(_every(region.voxels))
        for slab in _slabs(region.box, volume.array):
            values = volume.array[slab][label[slab] == value]
            tally.add(values)
            foreground.add(values)
        by_class[value] = tally.summary()
    quantiles = tuple(short(quantile) for quantile in sketch(foreground.sample()))
    measures = ChannelMeasures(image=image, foreground=foreground.summary(), foreground_quantiles=quantiles)
    return measures, by_class


def summarise_intensity(values: NDArray[Any]) -> Intensity:
    """Distribution of some voxels, at least one."""
    tally = _Tally(_every(values.size))
    tally.add(values)
    return tally.summary()


def thinned(image: NDArray[Any]) -> NDArray[Any]:
    """Every n-th voxel along each axis, about 200,000 in all."""
    step = max(int(np.ceil((image.size / _THINNED) ** (1 / 3))), 1)
    return image[::step, ::step, ::step]


def short(value: float) -> float:
    """Six digits: more would only make the files longer."""
    return float(f"{float(value):.6g}")


def intensity_of(mean: float, std: float, percentiles: Iterable[float]) -> Intensity:
    """A record of these numbers; the percentiles are 0.5, 5, 50, 95 and 99.5."""
    low, lower, median, upper, high = percentiles
    return Intensity(
        mean=short(mean),
        std=short(std),
        median=short(median),
        percentile_00_5=short(low),
        percentile_05=short(lower),
        percentile_95=short(upper),
        percentile_99_5=short(high),
    )


def _every(n_voxels: int) -> int:
    return max(n_voxels // _KEPT, 1)


def _slabs(box: _Slices, image: NDArray[Any]) -> Iterator[_Slices]:
    """The box in slices along the image's slowest axis, in order."""
    axis = int(np.argmax(np.abs(image.strides)))
    sides = [side.stop - side.start for side in box]
    thickness = max(_SLAB_VOXELS * sides[axis] // int(np.prod(sides)), 1)
    for start in range(box[axis].start, box[axis].stop, thickness):
        slab = list(box)
        slab[axis] = slice(start, min(start + thickness, box[axis].stop))
        yield slab[0], slab[1], slab[2]
