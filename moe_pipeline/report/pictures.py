"""Pictures of label maps on their images. Needs pillow, which comes with scikit-image and so with acvl_utils."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from scipy.ndimage import find_objects

from moe_pipeline.errors import GeometryError
from moe_pipeline.files import atomic_path
from moe_pipeline.imaging.geometry import Box
from moe_pipeline.imaging.volume import Volume
from moe_pipeline.report.layout import PALETTE, below, beside, caption
from moe_pipeline.report.slices import Plane, Slice, middle_voxel, normal_index, outlines, take_slice

if TYPE_CHECKING:
    from PIL.Image import Image

_THICKNESS_PX = 2
_WINDOW_PERCENT = (0.5, 99.5)


@dataclass(frozen=True, slots=True)
class PictureRow:
    """One image and several label maps of it, shown side by side."""

    title: str
    """What the image is; stands above the row."""
    image: Volume
    """Canonical image, (X, Y, Z)."""
    panels: Mapping[str, Volume]
    """Caption and canonical label map on the image's grid, from left to right; the first one, usually the reference,
    says where to cut."""
    plane: Plane = "axial"
    """Which way to cut."""


def side_by_side(rows: Sequence[PictureRow], path: Path, margin_mm: float | None = None, height_px: int = 320) -> None:
    """Write a PNG with a row of captioned panels for each image, such as reference, general, expert and MoE.

    Args:
        rows: at least one, each with at least one panel.
        path: where to write; an existing file is replaced.
        margin_mm: show only this much around what is labelled in any panel of the row; everything by default.
        height_px: height of a panel.

    Raises:
        GeometryError: if a label map does not lie on the grid of its image.
        ValueError: if there is nothing to draw.
    """
    if not rows or not all(row.panels for row in rows):
        raise ValueError("a picture needs at least one row, and each row at least one panel")
    _save(below([_picture_row(row, margin_mm, height_px) for row in rows]), path)


def _picture_row(row: PictureRow, margin_mm: float | None, height_px: int) -> "Image":
    for name, labels in row.panels.items():
        _check_grid(row.image, labels, f"{row.title}, {name}")
    image, panels = _zoomed(row.image, list(row.panels.values()), margin_mm)
    shown = next((labels for labels in panels if labels.array.any()), panels[0])
    index = normal_index(middle_voxel(shown.array), row.plane)
    grey = take_slice(image, row.plane, index)
    window, px_per_mm = _window(grey), height_px / _size_mm(grey)[0]
    tiles = [_panel(grey, take_slice(labels, row.plane, index), window, px_per_mm) for labels in panels]
    captioned = [below([tile, caption(name, tile.width)]) for name, tile in zip(row.panels, tiles, strict=True)]
    panels_beside = beside(captioned)
    return below([caption(row.title, panels_beside.width), panels_beside])


def _panel(grey: Slice, labels: Slice, window: tuple[float, float], px_per_mm: float) -> "Image":
    """One plane with the outlines of its labels, in square pixels."""
    from PIL import Image

    height, width = (max(1, round(mm * px_per_mm)) for mm in _size_mm(grey))
    low, high = window
    scaled = np.clip((grey.array.astype(np.float32) - low) / (high - low), 0, 1) * 255
    smooth = Image.fromarray(scaled.astype(np.uint8)).resize((width, height), Image.Resampling.BILINEAR)
    values = Image.fromarray(labels.array.astype(np.int32)).resize((width, height), Image.Resampling.NEAREST)
    stitched = np.asarray(smooth.convert("RGB")).copy()  # (height, width, 3)
    remaining = np.asarray(values).copy()  # (height, width)
    for _ in range(_THICKNESS_PX):
        edge = outlines(remaining)
        stitched[edge] = np.asarray(PALETTE, dtype=np.uint8)[(remaining[edge] - 1) % len(PALETTE)]
        remaining[edge] = 0
    return Image.fromarray(stitched)


def _zoomed(image: Volume, labels: list[Volume], margin_mm: float | None) -> tuple[Volume, list[Volume]]:
    """Cut away what is farther than the margin from every label."""
    labelled = np.logical_or.reduce([one.array > 0 for one in labels])
    if margin_mm is None or not labelled.any():
        return image, labels
    box = _grown(find_objects(labelled.astype(np.uint8))[0], image, margin_mm)
    return _cut(image, box), [_cut(one, box) for one in labels]


def _grown(tight: tuple[slice, ...], image: Volume, margin_mm: float) -> Box:
    """The box with its margin, as far as the image reaches."""
    margins = [round(margin_mm / mm) for mm in image.geometry.spacing_mm]
    x, y, z = (
        (max(0, part.start - margin), min(n, part.stop + margin))
        for part, margin, n in zip(tight, margins, image.geometry.shape, strict=True)
    )
    return x, y, z


def _cut(volume: Volume, box: Box) -> Volume:
    part = tuple(slice(*side) for side in box)
    return Volume(volume.array[part], volume.geometry.cropped(box))


def _window(plane: Slice) -> tuple[float, float]:
    low, high = np.percentile(plane.array, _WINDOW_PERCENT)
    return float(low), float(high) if high > low else float(low) + 1


def _size_mm(plane: Slice) -> tuple[float, float]:
    rows, columns = plane.array.shape
    return rows * plane.pixel_mm[0], columns * plane.pixel_mm[1]


def _check_grid(image: Volume, labels: Volume, what: str) -> None:
    differences = labels.geometry.differences(image.geometry)
    if differences:
        raise GeometryError(f"{what}: the labels do not lie on the grid of the image: {'; '.join(differences)}")


def _save(picture: "Image", path: Path) -> None:
    with atomic_path(path) as temporary:
        picture.save(temporary, format="PNG")
