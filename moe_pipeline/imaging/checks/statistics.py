"""A case in a few numbers and hashes, to compare it with the other cases of its dataset."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moe_pipeline.imaging.volume import Volume
from moe_pipeline.records.check import CaseNumbers, ChannelNumbers

_THINNED = 100_000  # voxels; enough for percentiles


def case_numbers(
    channels: Sequence[Volume], label: Volume | None, label_counts: Mapping[int, int]
) -> CaseNumbers | None:
    """Numbers of what could be read of a case.

    Args:
        channels: finite numbers of any type.
        label: unsigned integers.
        label_counts: voxels of each of its values.

    Returns:
        None if there is neither image nor label.
    """
    volumes = [*channels, *([label] if label is not None else [])]
    if not volumes:
        return None
    grid = volumes[0].geometry.canonical()
    voxel_ml = label.geometry.voxel_ml if label is not None else 0.0
    return CaseNumbers(
        spacing_mm=grid.spacing_mm,
        extent_mm=grid.extent_mm,
        channels=tuple(_channel_numbers(channel.array) for channel in channels),
        label_sha256=content_sha256(label.array) if label is not None else "",
        volumes_ml={value: count * voxel_ml for value, count in label_counts.items() if value > 0},
    )


def content_sha256(array: NDArray[Any]) -> str:
    """Hash of shape and voxels, whatever the header says about their place."""
    digest = hashlib.sha256(repr((array.shape, array.dtype.kind)).encode())
    digest.update(np.ascontiguousarray(array.transpose()).data)  # NIfTI's own order: no copy
    return digest.hexdigest()


def _channel_numbers(array: NDArray[Any]) -> ChannelNumbers:
    step = max(int(np.ceil((array.size / _THINNED) ** (1 / 3))), 1)
    low, median, high = np.percentile(array[::step, ::step, ::step], (1, 50, 99))
    return ChannelNumbers(content_sha256=content_sha256(array), median=float(median), spread=float(high - low))
