"""A distribution in two hundred numbers, so that cases can be pooled without keeping their voxels."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

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
