"""RTSTRUCT and SEG files alike: the names of their structures, the series that they refer to, and their masks."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from moe_pipeline.errors import ImageError
from moe_pipeline.imaging.dicom import contours, segments
from moe_pipeline.imaging.dicom.library import interpreting, read_dataset, storage_class
from moe_pipeline.imaging.dicom.structure import Structure
from moe_pipeline.imaging.geometry import Geometry

DEFAULT_THRESHOLD = 0.5
"""Smallest fraction or probability of a FRACTIONAL segment that counts as inside."""
_KINDS = {contours.RTSTRUCT: "RTSTRUCT", segments.SEGMENTATION: "SEG", segments.LABELMAP: "SEG"}


@dataclass(frozen=True, slots=True)
class LabelFile:
    """What is known of an RTSTRUCT or SEG file without its masks."""

    path: Path
    kind: str
    """RTSTRUCT or SEG."""
    patient: str
    """Patient id; may be empty."""
    names: tuple[str, ...]
    """Of the structures that have a mask; some may come twice."""
    series_uids: frozenset[str]
    """Series that it says it was drawn on; they may be elsewhere."""


def is_label_file(path: Path) -> bool:
    """Whether a DICOM file says that it stores contours or a segmentation."""
    return storage_class(path) in _KINDS


def open_label_file(path: Path) -> LabelFile:
    """Look into an RTSTRUCT or SEG file.

    Raises:
        ImageError: if it is neither, or damaged.
    """
    dataset = read_dataset(path)
    kind = _KINDS.get(str(dataset.get("SOPClassUID")))
    if kind is None:
        raise ImageError(f"{path}: expected an RTSTRUCT or SEG, found {dataset.get('Modality', 'no modality')}.")
    if kind == "RTSTRUCT":
        names = contours.names_of(dataset, path)
    else:
        names = [segment.name for segment in segments.segmentation_of(dataset, path).segments]
    with interpreting(path):
        return LabelFile(path, kind, str(dataset.get("PatientID") or ""), tuple(names), _series_uids(dataset))


def read_structures(
    path: Path,
    geometry: Geometry,
    threshold: float = DEFAULT_THRESHOLD,
    names: frozenset[str] | None = None,
    *,
    names_may_repeat: bool = False,
) -> Iterator[Structure]:
    """Masks of an RTSTRUCT or SEG file on the grid of an image, one after the other.

    Args:
        path: of the file.
        geometry: of the image, as stored.
        threshold: smallest fraction that is inside, for FRACTIONAL segments.
        names: structures wanted; all if None.
        names_may_repeat: whether several may have one name.

    Raises:
        GeometryError: if it was not made on that grid.
        ImageError: if it is neither, or damaged.
    """
    if storage_class(path) == contours.RTSTRUCT:
        for region in contours.read_contours(path, names_may_repeat=names_may_repeat):
            if names is None or region.name in names:
                yield contours.fill_contours(region, geometry, path)
    else:
        segmentation = segments.read_segmentation(path, names_may_repeat=names_may_repeat)
        yield from segments.segment_structures(segmentation, geometry, threshold, names)


def fit(path: Path, geometry: Geometry) -> float:
    """Share of the contours or frames of a label file that lie on a grid: 1 if it may have been drawn on that image."""
    if storage_class(path) == contours.RTSTRUCT:
        return contours.fit(contours.read_contours(path, names_may_repeat=True), geometry)
    return segments.fit(segments.read_segmentation(path, names_may_repeat=True), geometry)


def _series_uids(dataset: Any) -> frozenset[str]:
    listed = list(dataset.get("ReferencedSeriesSequence") or [])
    for frame in dataset.get("ReferencedFrameOfReferenceSequence") or []:
        for study in frame.get("RTReferencedStudySequence") or []:
            listed += study.get("RTReferencedSeriesSequence") or []
    return frozenset(str(item.get("SeriesInstanceUID")) for item in listed if item.get("SeriesInstanceUID"))
