"""A case as the viewer of a page gets it: image, prediction, reference and clicks, one case in memory at a time."""

import base64
import json
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moe_pipeline.errors import ImageError
from moe_pipeline.imaging.geometry import Box, Geometry
from moe_pipeline.imaging.io.files import check_finite, read_label_map
from moe_pipeline.imaging.io.native import read_native
from moe_pipeline.imaging.padding import without_padding
from moe_pipeline.imaging.volume import Volume, to_canonical
from moe_pipeline.report.scans.copy import Cut, choose_cut, coarser, image_copy, label_copy, packed, rounded
from moe_pipeline.report.scans.stills import still
from moe_pipeline.report.slices import middle_voxel

BASE64 = 4 / 3
"""Bytes in a page for each byte that is put into it."""
_WINDOW_PERCENT = (1.0, 99.5)
_TRIES = 4


@dataclass(frozen=True, slots=True)
class ShownClick:
    """A click as the viewer shows it."""

    mm: tuple[float, float, float]
    """RAS."""
    inside: bool
    """Or outside of its object."""
    class_id: int
    """Of its object."""


@dataclass(frozen=True, slots=True)
class ScanFiles:
    """Where a case lies."""

    image: Path
    """The channel that the model looked at."""
    prediction: Path | None
    """Label map, or None for a case without one."""
    reference: Path | None
    """Label map to compare with, if there is one."""
    clicks: tuple[ShownClick, ...] = ()
    """What was clicked."""


@dataclass(frozen=True, slots=True)
class SmallScan:
    """A case that is small enough."""

    scan: str
    """JSON for the viewer's script."""
    volumes: tuple[tuple[str, str], ...]
    """Name of an element and the base64 of a NIfTI file."""
    still: str
    """A picture as data: address."""
    remark: str
    """What part it shows, and how finely."""

    @property
    def n_bytes(self) -> int:
        """In the page."""
        return len(self.scan) + len(self.still) + sum(len(content) for _, content in self.volumes)


@dataclass(frozen=True, slots=True)
class _Loaded:
    image: Volume
    prediction: Volume | None
    reference: Volume | None
    clicks: tuple[ShownClick, ...]


def small_scan(files: ScanFiles, key: str, budget_bytes: int, still_px: int = 112) -> SmallScan:
    """Read a case and make its copy.

    Args:
        files: of the case.
        key: begins the names of its elements in the page.
        budget_bytes: what it may take in the page.
        still_px: height of its still picture.

    Raises:
        PipelineError: if a file cannot be read, or they are on different grids.
    """
    loaded = _load(files)
    grid = loaded.image.geometry
    cut = choose_cut(grid, _objects_box(loaded), budget_bytes / BASE64)
    for attempt in range(_TRIES):
        made = _pack(loaded, cut, key, still_px)
        if made.n_bytes <= budget_bytes or attempt == _TRIES - 1:
            return made
        cut = coarser(cut, grid, (made.n_bytes / budget_bytes) ** (1 / 3))
    raise AssertionError("the last attempt is taken as it is")


def _load(files: ScanFiles) -> _Loaded:
    with ThreadPoolExecutor(1) as other:  # unpacking leaves the interpreter free
        labels = other.submit(lambda: (_labels(files.prediction), _labels(files.reference)))
        stored = read_native(files.image)
        check_finite(stored.array, files.image)
        image = to_canonical(without_padding(stored))
        prediction, reference = labels.result()
    for path, volume in ((files.prediction, prediction), (files.reference, reference)):
        if volume is not None and (differences := volume.geometry.differences(image.geometry)):
            raise ImageError(f"{path}: on another grid than its image: {'; '.join(differences)}")
    return _Loaded(image, prediction, reference, files.clicks)


def _labels(path: Path | None) -> Volume | None:
    return None if path is None else read_label_map(path)


def _objects_box(loaded: _Loaded) -> Box | None:
    """Tight around everything labelled or clicked."""
    grid = loaded.image.geometry
    boxes: list[Box] = []
    for labels in (loaded.prediction, loaded.reference):
        if labels is not None and (found := tight_box(labels.array)) is not None:
            boxes.append(found)
    for click in loaded.clicks:
        voxel = np.round(grid.world_to_voxel(click.mm)).astype(int).tolist()
        x, y, z = ((min(max(index, 0), n - 1), min(max(index, 0), n - 1) + 1) for index, n in _with(voxel, grid))
        boxes.append((x, y, z))
    if not boxes:
        return None
    x, y, z = ((min(box[axis][0] for box in boxes), max(box[axis][1] for box in boxes)) for axis in range(3))
    return x, y, z


def tight_box(labels: NDArray[Any]) -> Box | None:
    """Around all voxels above 0 of a label map, (x, y, z); None if there are none.

    Seen along its slowest axis first, a volume is read once, in the order in which it lies in memory.
    """
    slow = int(np.argmax(np.abs(labels.strides)))
    others = [axis for axis in range(3) if axis != slow]
    seen = labels.max(axis=slow) > 0
    if not seen.any():
        return None
    sides = {axis: _ends(seen.any(axis=1 - place)) for place, axis in enumerate(others)}
    part = labels[tuple(slice(*sides.get(axis, (None, None))) for axis in range(3))]
    sides[slow] = _ends(part.max(axis=tuple(others)) > 0)
    return sides[0], sides[1], sides[2]


def _ends(profile: NDArray[np.bool_]) -> tuple[int, int]:
    """First index, and the one behind the last, of what is true."""
    found = np.flatnonzero(profile)
    return int(found[0]), int(found[-1]) + 1


def _with(voxel: Sequence[int], grid: Geometry) -> list[tuple[int, int]]:
    return list(zip(voxel, grid.shape, strict=True))


def _pack(loaded: _Loaded, cut: Cut, key: str, still_px: int) -> SmallScan:
    image = image_copy(loaded.image, cut)
    maps = {
        name: label_copy(labels, cut)
        for name, labels in (("prediction", loaded.prediction), ("reference", loaded.reference))
        if labels is not None
    }
    low, high = (float(value) for value in np.percentile(image.array, _WINDOW_PERCENT))
    window = low, max(high, low + 1e-6 * max(1.0, abs(low)))
    numbers, slope, intercept = rounded(image)
    contents = {"image": packed(numbers, image.geometry, slope, intercept)}
    contents |= {name: packed(labels.array, labels.geometry) for name, labels in maps.items()}
    scan = {
        "volumes": {name: f"{key}-{name}" for name in contents},
        "window": window,
        "looksLikeCt": bool(image.array.min() < -250),
        "centre": _centre(maps.values(), image.geometry),
        "clicks": [{"mm": click.mm, "inside": click.inside, "classId": click.class_id} for click in loaded.clicks],
    }
    volumes = tuple((f"{key}-{name}", base64.b64encode(content).decode()) for name, content in contents.items())
    picture = still(image, window, maps.get("prediction"), maps.get("reference"), still_px)
    return SmallScan(json.dumps(scan), volumes, picture, _remark(cut, image.geometry))


def _centre(maps: Iterable[Volume], grid: Geometry) -> list[float]:
    """A place, RAS in mm, in the middle of what is labelled."""
    labelled = np.zeros(grid.shape, np.uint8)
    for labels in maps:
        labelled |= (labels.array > 0).astype(np.uint8)
    return [round(float(mm), 3) for mm in grid.voxel_to_world(middle_voxel(labelled))]


def _remark(cut: Cut, grid: Geometry) -> str:
    spacing = " x ".join(f"{mm:.3g}" for mm in grid.spacing_mm)
    part = "The whole image" if cut.whole else "The part around the objects"
    fine = "in its own voxels of" if cut.steps == (1, 1, 1) else "in voxels of"
    return f"{part}, {fine} {spacing} mm."
