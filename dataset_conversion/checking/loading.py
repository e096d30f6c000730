"""Reading of cases whose files are images and label maps, or masks that make one."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dataset_conversion.layout import Loaded, LoadedCase, SourceCase
from dataset_conversion.masks import Mask, merge_masks
from moe_pipeline.errors import GeometryError, ImageError
from moe_pipeline.imaging.geometry import Geometry
from moe_pipeline.imaging.io.files import as_labels, check_finite, label_values
from moe_pipeline.imaging.io.native import read_with_notes, single
from moe_pipeline.imaging.resampling import inside, resample
from moe_pipeline.imaging.volume import Volume
from moe_pipeline.records.check import Fix


def load_files(
    case: SourceCase,
    fixes: frozenset[Fix] = frozenset(),
    *,
    classes: Mapping[Path, tuple[str, int]] | None = None,
    on_first_grid: bool = False,
    values: Mapping[int, int] | None = None,
    notes: tuple[str, ...] = (),
) -> LoadedCase:
    """Every channel of every image file, and the label file.

    Args:
        case: what to read.
        fixes: what to believe in headers that contradict themselves.
        classes: name and value of the structure that each label file is the mask of; they are merged. None if the one
            label file is a label map.
        on_first_grid: whether to resample the other channels where they lie on another grid than the first.
        values: value in the label file to value in the dataset, where a file has numbers of its own.
        notes: to pass on.

    Raises:
        ImageError: if a file cannot be read, the label is no single 3D volume, a mask shows several structures, or a
            channel has nothing in common with the first.
        GeometryError: if a grid is sheared or has no positive spacing, or a mask lies on another grid than the image.
    """
    channels: list[Loaded] = []
    for path in case.images:
        volumes, more = read_with_notes(path, fixes)
        channels += [Loaded(volume, path if len(volumes) == 1 and not more else None) for volume in volumes]
        notes += more
    if on_first_grid:
        channels, more = _on_first_grid(channels, case)
        notes += more
    label = None
    if classes is not None:
        label, more = _merged(case, classes, channels[0].volume.geometry, fixes)
        notes += more
    elif case.labels:
        volumes, more = read_with_notes(case.labels[0], fixes)
        label = Loaded(single(volumes, case.labels[0]), None if more else case.labels[0])
        label = label if values is None else Loaded(_renumbered(label.volume, values, case.labels[0]))
        notes += more
    return LoadedCase(tuple(channels), label, notes)


def _renumbered(label: Volume, values: Mapping[int, int], path: Path) -> Volume:
    labels = as_labels(label, path).array
    if unknown := set(label_values(labels)) - {0} - set(values):
        raise ImageError(f"{path.name}: no segment has the values {', '.join(map(str, sorted(unknown)))} of its voxels")
    table = np.zeros(int(labels.max()) + 1, np.uint16)
    for old, new in values.items():
        if old < len(table):
            table[old] = new
    return Volume(table[labels], label.geometry)


def _on_first_grid(channels: list[Loaded], case: SourceCase) -> tuple[list[Loaded], tuple[str, ...]]:
    first, *others = channels
    grid = first.volume.geometry
    placed, notes = [first], []
    for number, channel in enumerate(others, start=1):
        old = channel.volume.geometry
        if not grid.differences(old):
            placed.append(channel)
            continue
        name = (channel.file or case.images[0]).name
        check_finite(channel.volume.array, channel.file or case.images[0])
        covered = float(inside(old, grid).mean())
        if covered == 0:
            raise ImageError(f"{name}: shows no part of what channel 0 shows; its position may be wrong")
        placed.append(Loaded(resample(channel.volume, grid, order="linear", outside=0.0)))
        sides, spacing = "x".join(map(str, old.shape)), "x".join(f"{mm:.3g}" for mm in old.spacing_mm)
        missing = f", of which {1 - covered:.1%} lies outside and is 0" if covered < 1 else ""
        notes.append(
            f"channel {number} ({name}, {sides} at {spacing} mm) resampled onto the grid of channel 0{missing}"
        )
    return placed, tuple(notes)


def _merged(
    case: SourceCase, classes: Mapping[Path, tuple[str, int]], grid: Geometry, fixes: frozenset[Fix]
) -> tuple[Loaded | None, tuple[str, ...]]:
    def masks() -> Iterator[Mask]:
        for path in case.labels:
            yield Mask(*classes[path], _mask(path, grid, fixes))

    labels, notes = merge_masks(masks(), grid.shape)
    return Loaded(Volume(labels, grid)), notes


def _mask(path: Path, grid: Geometry, fixes: frozenset[Fix]) -> NDArray[np.bool_]:
    native = single(read_with_notes(path, fixes)[0], path)
    if faults := grid.differences(native.geometry):
        raise GeometryError(f"{path.name}: image and mask lie on different grids: {'; '.join(faults)}")
    labels = as_labels(native, path).array
    values = [value for value in label_values(labels) if value > 0]
    if len(values) > 1:
        listed = ", ".join(map(str, values[:10]))
        found = f"{path.name}: expected the mask of one structure, found values {listed}"
        raise ImageError(f"{found}. If it is a label map of several, take it out of the folder of masks.")
    return labels > 0
