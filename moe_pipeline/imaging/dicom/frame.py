"""One slice: where it lies, how its numbers are meant, and what may tell it from another one at the same place."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moe_pipeline.errors import ImageError
from moe_pipeline.imaging.dicom.library import interpreting
from moe_pipeline.imaging.dicom.stack_attributes import Find, stack_attributes_of
from moe_pipeline.imaging.geometry import Geometry

RAS_FROM_LPS = (-1.0, -1.0, 1.0)
"""DICOM's world grows to the left and to the back."""
Vector = tuple[float, float, float]
_STORAGE = "1.2.840.10008.5.1.4.1.1."
_SLICES = ("2", "4", "128", "130")  # families of CT, MR and PET
_PARALLEL_TOLERANCE = 1e-3
_MISSING = "a slice without {}; it cannot be placed in the patient. Export the original series."


@dataclass(frozen=True, slots=True)
class Plane:
    """A grid of pixels in the world (RAS, mm)."""

    corner_mm: Vector
    """Centre of the first pixel."""
    across: Vector
    """Unit vector along a row: the index x grows."""
    down: Vector
    """Unit vector along a column: the index y grows."""
    spacing_mm: tuple[float, float]
    """Along x and y."""
    shape: tuple[int, int]
    """Columns and rows: x and y."""

    @property
    def normal(self) -> NDArray[np.float64]:
        """Unit vector that completes across and down to a right-handed system."""
        return np.cross(self.across, self.down)

    def is_parallel(self, other: "Plane") -> bool:
        """Whether both have the same axes."""
        axes, others = (self.across, self.down), (other.across, other.down)
        return bool(np.abs(np.subtract(axes, others)).max() <= _PARALLEL_TOLERANCE)

    def grid(self, n_slices: int, gap_mm: float) -> Geometry:
        """The grid of this and further planes, one after the other along the normal."""
        axes = np.stack([self.across, self.down, self.normal], axis=1)
        return Geometry(
            (*self.shape, n_slices), (*self.spacing_mm, gap_mm), self.corner_mm, tuple(axes.ravel().tolist())
        )


@dataclass(frozen=True, slots=True)
class Frame:
    """One slice of an image."""

    path: Path
    number: int | None
    """Index in a file of several frames; None if the file is the slice."""
    uid: str
    """SOP instance UID of the file."""
    plane: Plane
    thickness_mm: float | None
    """Distance to the next slice, or else thickness, as the header claims; nothing is built on it but single slices."""
    slope: float
    intercept: float
    attributes: tuple[str, ...]
    """Values of `attributes.STACK_ATTRIBUTES`."""


def frames_of(dataset: Any, path: Path) -> list[Frame]:
    """Every slice of a file, in the file's order.

    Raises:
        ImageError: if one has no place in the patient, or more than one number per pixel.
    """
    with interpreting(path):
        return _frames(dataset, path)


def why_no_slice(dataset: Any) -> str:
    """What a file is that is no slice of a patient, such as a dose report or a screenshot; empty for others.

    A CT, MR or PET image is never passed over: one that cannot be placed may be a slice that is missing.
    """
    is_colour = int(dataset.get("SamplesPerPixel") or 1) != 1
    kind = str(dataset.get("SOPClassUID") or "")
    family = kind.removeprefix(_STORAGE).split(".")[0]
    if "ImagePositionPatient" in dataset or "PerFrameFunctionalGroupsSequence" in dataset:
        return "colour pictures" if is_colour and family not in _SLICES else ""
    if is_colour:
        return "colour pictures"
    image_type = {str(word).upper() for word in dataset.get("ImageType") or []}
    if not kind and "Rows" not in dataset:
        return "files that begin like DICOM, but hold no image"
    if family in _SLICES or not kind.startswith(_STORAGE):
        return "screen captures" if {"DERIVED", "SECONDARY"} <= image_type else ""
    return f"{dataset.SOPClassUID.name.removesuffix(' Storage')}, without a place in the patient"


def _frames(dataset: Any, path: Path) -> list[Frame]:
    if "MOSAIC" in (dataset.get("ImageType") or []):
        raise ImageError(
            f"{path}: a Siemens mosaic: one picture of {dataset.Columns}x{dataset.Rows} pixels in which all slices lie "
            "side by side. Export it as single slices or as enhanced MR, or convert it with dcm2niix.",
            kind="dimensions",
        )
    if int(dataset.get("SamplesPerPixel", 1)) != 1:
        raise ImageError(
            f"{path}: a colour picture ({dataset.SamplesPerPixel} numbers per pixel), not a slice.", kind="dimensions"
        )
    is_single = "PerFrameFunctionalGroupsSequence" not in dataset
    if is_single and int(dataset.get("NumberOfFrames") or 1) > 1:
        raise ImageError(
            f"{path}: {dataset.NumberOfFrames} frames, and nothing says where they lie in the patient.",
            kind="dimensions",
        )
    return [_frame(find, dataset, path, None if is_single else number) for number, find in enumerate(finders(dataset))]


def finders(dataset: Any) -> Iterator[Find]:
    """For every frame a function that looks up its attributes: its own first, then those of all frames."""
    if "PerFrameFunctionalGroupsSequence" not in dataset:
        yield dataset.get
        return
    shared = _items(dataset.get("SharedFunctionalGroupsSequence") or [])
    for groups in dataset.PerFrameFunctionalGroupsSequence:
        yield _finder([*_items([groups]), *shared, dataset])


def plane_of(find: Find, dataset: Any, path: Path) -> Plane:
    """Where a frame lies.

    Raises:
        ImageError: if its header does not say so.
    """
    position, orientation, spacing = (
        find(key) for key in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing")
    )
    named = {"position": (position, 3), "orientation": (orientation, 6), "pixel spacing": (spacing, 2)}
    for name, (value, length) in named.items():
        if value is None or isinstance(value, str) or len(value) != length or any(part is None for part in value):
            raise ImageError(f"{path}: {_MISSING.format(name)}")
    for name, (value, _) in named.items():
        if not np.isfinite([float(part) for part in value]).all() or (name == "pixel spacing" and min(value) <= 0):
            listed = ", ".join(map(str, value))
            raise ImageError(f"{path}: its {name} is {listed}, which places nothing. Export the original series.")
    down_mm, across_mm = float(spacing[0]), float(spacing[1])  # DICOM: rows first
    return Plane(
        to_ras(position),
        _unit(to_ras(orientation[:3])),
        _unit(to_ras(orientation[3:])),
        (across_mm, down_mm),
        (int(dataset.Columns), int(dataset.Rows)),
    )


def to_ras(point: Any) -> Vector:
    """Three numbers of a DICOM header in the world of this code."""
    x, y, z = (float(value) * sign for value, sign in zip(point, RAS_FROM_LPS, strict=True))
    return x, y, z


def _frame(find: Find, dataset: Any, path: Path, number: int | None) -> Frame:
    thickness = find("SpacingBetweenSlices") or find("SliceThickness")
    slope, intercept = find("RescaleSlope"), find("RescaleIntercept")
    factor, shift = 1.0 if slope is None else float(slope), 0.0 if intercept is None else float(intercept)
    if not np.isfinite([factor, shift]).all() or factor == 0:
        raise ImageError(
            f"{path}: its voxels are to be scaled by RescaleSlope {slope} and RescaleIntercept {intercept}, which "
            "makes no numbers of them. Export the original series."
        )
    return Frame(
        path,
        number,
        str(dataset.get("SOPInstanceUID", "")),
        plane_of(find, dataset, path),
        abs(float(thickness)) if thickness else None,
        factor,
        shift,
        stack_attributes_of(find),
    )


def _items(groups: Any) -> list[Any]:
    """First item of every sequence of a functional group, and of the sequences in those that hold a direction."""
    found = [element.value[0] for group in groups for element in group if element.VR == "SQ" and element.value]
    inner = [item.DiffusionGradientDirectionSequence for item in found if "DiffusionGradientDirectionSequence" in item]
    return found + [sequence[0] for sequence in inner if sequence]


def _finder(places: list[Any]) -> Find:
    def find(keyword: str | int) -> Any:
        return next((place.get(keyword) for place in places if keyword in place), None)

    return find


def _unit(vector: Vector) -> Vector:
    length = float(np.linalg.norm(vector))
    x, y, z = (value / length if length else 0.0 for value in vector)
    return x, y, z
