"""What the encoder is shown: crops of one spacing, with intensities brought to one scale."""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from moe_pipeline.imaging.foreground import foreground_range, scaled_to
from moe_pipeline.imaging.geometry import Geometry
from moe_pipeline.imaging.resampling import inside, resample
from moe_pipeline.imaging.volume import Volume
from moe_pipeline.records.foundation import Normalisation, View


def view_grid(image: Geometry, view: View) -> Geometry:
    """The crop grid of a view over a whole image: RAS+ order, the view's spacing, the image's first corner."""
    canonical = image.canonical()
    return canonical.resampled(view.over(canonical.shape, canonical.spacing_mm).edges_mm)


def extract_crop(volume: Volume, grid: Geometry, view: View) -> NDArray[np.float32]:
    """One crop as the encoder wants it: linear sampling, 0 beyond the image, then the view's intensity rule.

    Args:
        volume: the image, on any grid.
        grid: of the crop, on the crop grid of `view_grid` (see `imaging.crop_grid`).
        view: whose rule to apply.

    Returns:
        The grid's shape, C-contiguous.
    """
    crop = resample(volume, grid, order="linear", outside=0.0)
    limits = _range_of(volume) if view.normalisation == "foreground" else None
    return normalise(np.ascontiguousarray(crop.array), inside(volume.geometry, grid), view.normalisation, limits)


def normalise(
    crop: NDArray[np.float32],
    within: NDArray[np.bool_],
    rule: Normalisation,
    limits: tuple[float, float] | None = None,
) -> NDArray[np.float32]:
    """Apply an intensity rule to a crop. A crop without contrast becomes all zeros.

    Args:
        crop: intensities, any shape, 0 where there is no image.
        within: the same shape, True where there is an image.
        rule: see `View.normalisation`.
        limits: for the rule `foreground`, those of the whole image; the crop's own if None.
    """
    if rule == "foreground":
        scaled = scaled_to(crop, foreground_range(crop[within]) if limits is None else limits)
        return np.where(within, scaled, np.float32(0))
    if rule == "zscore_positive":
        return _zscored(crop, crop[crop > 0], ddof=1)  # SAM-Med3D's weights were trained with the sample's std
    values = crop[within]
    if values.size == 0:
        return np.zeros_like(crop)
    lowest, highest = np.percentile(values, (0.5, 99.5)).astype(np.float32)
    clipped = np.where(within, np.clip(crop, lowest, highest), lowest)
    return _zscored(clipped, clipped[within], ddof=0)


@lru_cache(maxsize=2)
def _range_of(volume: Volume) -> tuple[float, float]:
    """Of an image that many crops are cut from; one is read while another one is predicted."""
    return foreground_range(volume.array)


def _zscored(crop: NDArray[np.float32], values: NDArray[np.float32], ddof: int) -> NDArray[np.float32]:
    if values.size <= ddof:
        return np.zeros_like(crop)
    mean, std = float(values.mean(dtype=np.float64)), float(values.std(ddof=ddof, dtype=np.float64))
    if std <= 1e-6 * abs(mean):
        return np.zeros_like(crop)
    return ((crop - np.float32(mean)) / np.float32(std)).astype(np.float32, copy=False)
