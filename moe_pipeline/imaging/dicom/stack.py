"""Slices that make one even grid, or an error that says with figures why they do not.

ITK would stack any slices: with a gap it widens the spacing, and of three volumes it makes one with a third of it.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from moe_pipeline.errors import GeometryError, ImageError
from moe_pipeline.imaging.dicom.frame import Frame
from moe_pipeline.imaging.dicom.stack_attributes import Separation, separate
from moe_pipeline.imaging.geometry import Geometry

_SAME_PLACE = 0.01  # of the pixel side: closer planes are one place
_EVEN_TOLERANCE = 0.1  # of the spacing, for the place of each slice; headers round to 0.1 mm now and then
_DRIFT_TOLERANCE = 0.5  # pixels over the whole stack
_MAX_LISTED = 4
_FULL_EXPORT = "Export the full series again."


@dataclass(frozen=True, slots=True, eq=False)
class Stack:
    """Slices in the order of their grid's third axis."""

    frames: tuple[Frame, ...]
    geometry: Geometry


@dataclass(frozen=True, slots=True, eq=False)
class SeriesVolume:
    """One volume of a series."""

    short: str
    """What tells it from the other volumes, for ids: b800; empty if it is the only one."""
    title: str
    """The same for people: b-value 800."""
    stack: Stack


def stack_frames(frames: Sequence[Frame], name: str) -> Stack:
    """The one volume that slices make.

    Args:
        frames: in any order.
        name: of the series, for messages.

    Raises:
        ImageError: if they are none, or several volumes, not alike, or missing, unevenly spaced or sheared.
        GeometryError: if their axes are not orthogonal.
    """
    found = volumes_of(frames, name)
    if len(found) > 1:
        listed = "; ".join(f"{volume.title}: {len(volume.stack.frames)} slices" for volume in found[:_MAX_LISTED])
        raise ImageError(
            f"{name}: {len(found)} volumes in one series of {len(frames)} slices ({listed}"
            f"{', ...' if len(found) > _MAX_LISTED else ''}). Put each volume into a folder of its own, or let "
            "`moe convert --as dicom` make a case of each.",
            kind="several_volumes",
        )
    return found[0].stack


def volumes_of(frames: Sequence[Frame], name: str) -> list[SeriesVolume]:
    """The volumes that the slices of a series make; told apart by b-value, time, echo, ... where places repeat.

    Raises:
        ImageError: as `stack_frames`, and if nothing tells several volumes apart.
        GeometryError: if axes are not orthogonal.
    """
    _check_alike(frames, name)
    places = _places(frames)
    n_places = int(places.max()) + 1
    if n_places == len(frames):
        return [SeriesVolume("", "", _even_stack(frames, name))]
    separation = separate([frame.attributes for frame in frames], places.tolist())
    if separation is None:
        raise ImageError(
            f"{name}: {len(frames)} slices lie at {n_places} places ({_counts(places)}): several volumes in one "
            "series, and neither b-value, time, echo, acquisition nor the like tells them apart. "
            "Put each volume into a folder of its own.",
            kind="several_volumes",
        )
    return _separated(frames, separation, name)


def _separated(frames: Sequence[Frame], separation: Separation, name: str) -> list[SeriesVolume]:
    volumes = []
    for short, value, members in separation.groups:
        title = f"{' and '.join(separation.titles)} {value}"
        stack = _even_stack([frames[number] for number in members], f"{name} ({title})")
        volumes.append(SeriesVolume(short, title, stack))
    return volumes


def _check_alike(frames: Sequence[Frame], name: str) -> None:
    if not frames:
        raise ImageError(f"{name}: no DICOM image found. Give a folder with one series, or an image file.")
    doubled = [key for key, n in Counter((frame.uid, frame.number) for frame in frames).items() if n > 1 and key[0]]
    if doubled:
        files = sorted(frame.path.name for frame in frames if (frame.uid, frame.number) == doubled[0])
        raise ImageError(
            f"{name}: {len(doubled)} slices are there more than once (such as {', '.join(files[:_MAX_LISTED])}, which "
            "have one SOP instance UID). Remove the copies.",
            kind="duplicate",
        )
    first = frames[0].plane
    turned = sum(not frame.plane.is_parallel(first) for frame in frames)
    if turned:
        raise ImageError(
            f"{name}: slices of one series have different orientations ({turned} of {len(frames)} differ from the "
            "first): a localizer, or several stacks. Put each stack into a folder of its own.",
            kind="irregular_slices",
        )
    kinds = Counter((frame.plane.shape, frame.plane.spacing_mm) for frame in frames)
    if len(kinds) > 1:
        listed = ", ".join(
            f"{n} of {shape[0]}x{shape[1]} pixels of {spacing[0]:.6g}x{spacing[1]:.6g} mm"
            for (shape, spacing), n in kinds.most_common(_MAX_LISTED)
        )
        message = f"{name}: slices of one series differ in size: {listed}. Put each size into a folder of its own."
        raise ImageError(message, kind="irregular_slices")


def _places(frames: Sequence[Frame]) -> NDArray[np.int64]:
    """Number of the place of each slice, counted along the normal."""
    heights = _heights_mm(frames)
    order = np.argsort(heights, kind="stable")
    is_new = np.diff(heights[order], prepend=heights.min() - 1e9) > _SAME_PLACE * min(frames[0].plane.spacing_mm)
    places = np.empty(len(frames), np.int64)
    places[order] = np.cumsum(is_new) - 1
    return places


def _counts(places: NDArray[np.int64]) -> str:
    per_place = Counter(np.bincount(places).tolist())
    return ", ".join(f"{n} with {count}" for count, n in sorted(per_place.items()))


def _even_stack(frames: Sequence[Frame], name: str) -> Stack:
    heights = _heights_mm(frames)
    order = np.argsort(heights, kind="stable")
    ordered = tuple(frames[number] for number in order)
    if len(ordered) == 1:
        gap_mm = ordered[0].thickness_mm
        if gap_mm is None:
            raise ImageError(f"{name}: a single slice, and its header has no thickness.", kind="irregular_slices")
    else:
        _check_gaps(heights[order], name)
        gap_mm = float(heights[order][-1] - heights[order][0]) / (len(ordered) - 1)
        _check_drift(ordered, name)
    try:
        return Stack(ordered, ordered[0].plane.grid(len(ordered), gap_mm))
    except GeometryError as error:
        raise GeometryError(f"{name}: {error}", kind=error.kind) from error


def _heights_mm(frames: Sequence[Frame]) -> NDArray[np.float64]:
    corners = np.array([frame.plane.corner_mm for frame in frames])  # (n, 3)
    heights: NDArray[np.float64] = corners @ frames[0].plane.normal
    return heights


def _check_gaps(heights_mm: NDArray[np.float64], name: str) -> None:
    gaps = np.diff(heights_mm)
    usual = float(np.sort(gaps)[(len(gaps) - 1) // 2])
    even = np.linspace(heights_mm[0], heights_mm[-1], len(heights_mm))
    if np.abs(heights_mm - even).max() <= _EVEN_TOLERANCE * (gaps.sum() / len(gaps)):
        return
    found = (
        f"{name}: {len(heights_mm)} slices are {gaps.min():.3g} to {gaps.max():.3g} mm apart, usually {usual:.3g} mm"
    )
    steps = gaps / usual
    wide = np.flatnonzero(np.rint(steps) > 1)
    if len(wide) and np.abs(steps - np.rint(steps)).max() <= _EVEN_TOLERANCE:
        n_missing = int(np.rint(steps).sum()) - len(gaps)
        where = ", ".join(f"{first + 1} and {first + 2}" for first in wide[:_MAX_LISTED])
        more = ", ..." if len(wide) > _MAX_LISTED else ""
        raise ImageError(
            f"{found}: {n_missing} of {len(heights_mm) + n_missing} are missing (counted from "
            f"{heights_mm[0]:.6g} mm along the normal, between {where}{more}). {_FULL_EXPORT}",
            kind="missing_slices",
        )
    raise ImageError(f"{found}: some are missing, or they are unevenly spaced. {_FULL_EXPORT}", kind="irregular_slices")


def _check_drift(frames: Sequence[Frame], name: str) -> None:
    first, last = frames[0].plane, frames[-1].plane
    way = np.subtract(last.corner_mm, first.corner_mm)  # (3,)
    along = float(way @ first.normal)
    drift = float(np.linalg.norm(way - along * first.normal))
    if drift > _DRIFT_TOLERANCE * min(first.spacing_mm):
        angle = np.degrees(np.arctan2(drift, along))
        raise ImageError(
            f"{name}: slices are shifted sideways by {drift / (len(frames) - 1):.3g} mm each, {drift:.3g} mm in all "
            f"(gantry tilt of {angle:.3g} degrees). Resample it to upright slices first.",
            kind="tilted_slices",
        )
