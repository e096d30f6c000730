"""SEG: segments of all three types, placed on an image by where their frames lie.

References to slices are not used: they may name another series of the same patient on the same grid.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moe_pipeline.errors import GeometryError, ImageError
from moe_pipeline.imaging.dicom.frame import Plane, finders, plane_of
from moe_pipeline.imaging.dicom.library import interpreting, read_dataset, text_of
from moe_pipeline.imaging.dicom.pixels import decoded_frames
from moe_pipeline.imaging.dicom.structure import Structure, structure_of_voxels
from moe_pipeline.imaging.geometry import Geometry

SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.4"
LABELMAP = "1.2.840.10008.5.1.4.1.1.66.7"
_VOXEL_GRID_TOLERANCE = 0.05  # voxels, at the far corner of a frame
_NONE = np.empty((0, 3), np.int64)


@dataclass(frozen=True, slots=True)
class Segment:
    """An entry of the list of segments."""

    number: int
    """How frames, or pixels of a LABELMAP, refer to it."""
    name: str
    """Its label, without blanks at its ends."""


@dataclass(frozen=True, slots=True, eq=False)
class Segmentation:
    """What a SEG file holds, without its pixels."""

    path: Path
    kind: str
    """BINARY, FRACTIONAL or LABELMAP."""
    segments: tuple[Segment, ...]
    planes: tuple[Plane, ...]
    """Where each frame lies."""
    numbers: tuple[int, ...]
    """Segment of each frame; 0 in a LABELMAP, where pixels say so."""
    largest: int
    """Pixel value that stands for 1 in a FRACTIONAL one."""
    padding: int | None
    """Pixel value of a LABELMAP that stands for no segment at all."""


def read_segmentation(path: Path, *, names_may_repeat: bool = False) -> Segmentation:
    """Segments and places of a SEG file.

    Raises:
        ImageError: if it is no SEG, damaged, or two segments have the same name and that is not asked for.
    """
    found = segmentation_of(read_dataset(path), path)
    counts = Counter(segment.name for segment in found.segments)
    doubled = sorted(name for name, n in counts.items() if n > 1)
    if doubled and not names_may_repeat:
        raise ImageError(f"{path}: several segments are called {', '.join(doubled)}. Rename them in the SEG.")
    return found


def segmentation_of(dataset: Any, path: Path) -> Segmentation:
    """As `read_segmentation`, of a dataset that is read already; names may repeat."""
    with interpreting(path):
        return _segmentation(dataset, path)


def _segmentation(dataset: Any, path: Path) -> Segmentation:
    if dataset.get("SOPClassUID") not in (SEGMENTATION, LABELMAP):
        raise ImageError(f"{path}: expected a SEG, found {dataset.get('Modality', 'no modality')}.")
    kind = "LABELMAP" if dataset.SOPClassUID == LABELMAP else str(dataset.SegmentationType)
    listed = [Segment(int(item.SegmentNumber), _name(dataset, item)) for item in dataset.SegmentSequence]
    segments = tuple(segment for segment in listed if segment.number > 0)  # a LABELMAP may list its background
    found = list(finders(dataset))
    padding = dataset.get("PixelPaddingValue") if kind == "LABELMAP" else None
    return Segmentation(
        path,
        kind,
        segments,
        tuple(plane_of(find, dataset, path) for find in found),
        tuple(int(find("ReferencedSegmentNumber") or 0) for find in found),
        int(dataset.get("MaximumFractionalValue") or 1),
        None if padding is None else int(padding),
    )


def segment_structures(
    segmentation: Segmentation, geometry: Geometry, threshold: float = 0.5, names: frozenset[str] | None = None
) -> Iterator[Structure]:
    """Masks of a segmentation, one after the other, on the grid of an image.

    Args:
        segmentation: as read.
        geometry: of the image, as stored.
        threshold: smallest fraction or probability that is inside, for a FRACTIONAL one; 0 is never inside.
        names: segments wanted; all if None.

    Raises:
        GeometryError: if the frames lie on another crop grid than the image.
        ImageError: if the pixels cannot be decoded.
    """
    steps = [_steps(plane, geometry, segmentation.path) for plane in segmentation.planes]
    dataset = read_dataset(segmentation.path, pixels=True)
    wanted = [segment for segment in segmentation.segments if names is None or segment.name in names]
    if segmentation.kind == "LABELMAP":
        found = _voxels_by_value(segmentation, steps, dataset)
        for segment in wanted:
            yield structure_of_voxels(segment.name, geometry, np.concatenate([_NONE, *found.get(segment.number, [])]))
        return
    smallest = max(1.0, threshold * segmentation.largest) if segmentation.kind == "FRACTIONAL" else 1
    for segment in wanted:
        members = [index for index, number in enumerate(segmentation.numbers) if number == segment.number]
        voxels = [_NONE]
        for index, pixels in zip(members, decoded_frames(dataset, members, segmentation.path), strict=True):
            voxels.append(_voxels(pixels >= smallest, steps[index]))
        yield structure_of_voxels(segment.name, geometry, np.concatenate(voxels))


def fit(segmentation: Segmentation, geometry: Geometry) -> float:
    """Share of the frames that lie on the voxels of an image with every pixel; 1 if it may have been made on it."""
    n_inside = 0
    for plane in segmentation.planes:
        try:
            first, across, down = _steps(plane, geometry, segmentation.path)
        except GeometryError:
            return 0.0
        last = first + across * (plane.shape[0] - 1) + down * (plane.shape[1] - 1)
        n_inside += bool((np.minimum(first, last) >= 0).all() and (np.maximum(first, last) < geometry.shape).all())
    return n_inside / len(segmentation.planes) if segmentation.planes else 0.0


def _voxels_by_value(
    segmentation: Segmentation, steps: list[NDArray[np.int64]], dataset: Any
) -> dict[int, list[NDArray[np.int64]]]:
    """Voxels (n, 3) of each frame, by segment, of a LABELMAP."""
    known = {segment.number for segment in segmentation.segments}
    found: dict[int, list[NDArray[np.int64]]] = {}
    for step, pixels in zip(steps, decoded_frames(dataset, range(len(steps)), segmentation.path), strict=True):
        for value in set(np.unique(pixels).tolist()) - {0, segmentation.padding}:
            if value not in known:
                raise ImageError(f"{segmentation.path}: pixels have the value {value}, which no segment has.")
            found.setdefault(value, []).append(_voxels(pixels == value, step))
    return found


def _voxels(inside: NDArray[np.bool_], steps: NDArray[np.int64]) -> NDArray[np.int64]:
    """Indices (n, 3) in the image of the pixels of a frame, mask (x, y)."""
    x, y = np.nonzero(inside)
    voxels: NDArray[np.int64] = steps[0] + np.outer(x, steps[1]) + np.outer(y, steps[2])
    return voxels


def _steps(plane: Plane, geometry: Geometry, path: Path) -> NDArray[np.int64]:
    """Voxel of a frame's first pixel, and the steps of one pixel along x and y: rows of (3, 3)."""
    across_mm = np.multiply(plane.across, plane.spacing_mm[0])
    down_mm = np.multiply(plane.down, plane.spacing_mm[1])
    corner = np.asarray(plane.corner_mm)
    first, second, third = geometry.world_to_voxel(np.stack([corner, corner + across_mm, corner + down_mm]))
    exact = np.stack([first, second - first, third - first])  # (3, 3)
    steps = np.rint(exact)
    far = np.abs(exact - steps).T @ (1, *plane.shape)  # voxels, at the far corner
    if far.max() > _VOXEL_GRID_TOLERANCE or not np.array_equal(np.abs(steps[1:]).sum(axis=1), (1, 1)):
        sizes = [f"{a:.6g}x{b:.6g}" for a, b in (plane.spacing_mm, geometry.spacing_mm[:2])]
        corner_at = ", ".join(f"{value:.4g}" for value in first)
        raise GeometryError(
            f"{path.name}: a frame of {plane.shape[0]}x{plane.shape[1]} pixels of {sizes[0]} mm does not lie on the "
            f"voxels of the image (slices of {geometry.shape[0]}x{geometry.shape[1]} pixels of {sizes[1]} mm; the "
            f"frame's first pixel is at voxel {corner_at}). It belongs to another series."
        )
    whole: NDArray[np.int64] = steps.astype(np.int64)
    return whole


def _name(dataset: Any, item: Any) -> str:
    return text_of(dataset, item.get("SegmentLabel")) or f"segment {int(item.SegmentNumber)}"
