"""Still pictures of a case: for paper, for the table, and where there is no viewer."""

import base64
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from moe_pipeline.imaging.volume import Volume
from moe_pipeline.report.layout import PALETTE, beside
from moe_pipeline.report.slices import Plane, Slice, middle_voxel, normal_index, outlines, take_slice

if TYPE_CHECKING:
    from PIL.Image import Image

PLANES: tuple[Plane, ...] = ("axial", "coronal", "sagittal")
_REFERENCE = (255, 255, 255)
_QUALITY = 72


def still(
    image: Volume,
    window: tuple[float, float],
    prediction: Volume | None,
    reference: Volume | None,
    height_px: int = 112,
) -> str:
    """Three planes through the middle of the objects: the prediction outlined in its colours, the reference in white.

    Args:
        image: canonical.
        window: values shown black and white.
        prediction: label map on the same grid.
        reference: label map on the same grid.
        height_px: of the picture.

    Returns:
        A JPEG as data: address.
    """
    known = [labels for labels in (reference, prediction) if labels is not None]
    labelled = np.logical_or.reduce([one.array > 0 for one in known]) if known else np.zeros(image.array.shape, bool)
    middle = middle_voxel(labelled.astype(np.uint8))
    tiles = [
        _plane(image, window, known, prediction, plane, normal_index(middle, plane), height_px) for plane in PLANES
    ]
    stream = io.BytesIO()
    beside(tiles).save(stream, format="JPEG", quality=_QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(stream.getvalue()).decode()}"


def _plane(
    image: Volume,
    window: tuple[float, float],
    known: Sequence[Volume],
    prediction: Volume | None,
    plane: Plane,
    index: int,
    height_px: int,
) -> "Image":
    from PIL import Image

    grey = take_slice(image, plane, index)
    low, high = window
    scaled = np.clip((grey.array - low) / (high - low), 0, 1) * 255
    size = _size_px(grey, height_px)
    picture = Image.fromarray(scaled.astype(np.uint8)).resize(size, Image.Resampling.BILINEAR)
    pixels = np.asarray(picture.convert("RGB")).copy()  # (height, width, 3)
    for labels in known:  # the reference first: the prediction is drawn over it
        flat = Image.fromarray(take_slice(labels, plane, index).array.astype(np.int32))
        values = np.asarray(flat.resize(size, Image.Resampling.NEAREST))
        edge = outlines(values)
        colours = np.asarray(PALETTE, np.uint8)[(values[edge] - 1) % len(PALETTE)]
        pixels[edge] = colours if labels is prediction else _REFERENCE
    return Image.fromarray(pixels)


def _size_px(plane: Slice, height_px: int) -> tuple[int, int]:
    """Width and height in square pixels."""
    rows, columns = (n * mm for n, mm in zip(plane.array.shape, plane.pixel_mm, strict=True))
    return max(8, min(3 * height_px, round(height_px * columns / rows))), height_px
