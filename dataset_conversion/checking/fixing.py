"""`moe convert --fix`: what can be repaired on the way without guessing. Whatever is done is noted.

Sources stay as they are. Faults that nothing here repairs stay, and the case fails with them, as it does without --fix.
"""

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

import numpy as np

from dataset_conversion.checking.loading import load_files
from dataset_conversion.layout import Loaded, LoadedCase, SourceCase, SourceDataset
from moe_pipeline.errors import DatasetError, GeometryError, PipelineError
from moe_pipeline.imaging.checks.repair import can_snap, distance_in_voxels, on_grid_of, rounded, snapped
from moe_pipeline.imaging.checks.shear import read_without_shear
from moe_pipeline.imaging.geometry import Geometry
from moe_pipeline.imaging.io.files import as_labels
from moe_pipeline.imaging.io.native import read_channels
from moe_pipeline.records.check import FIXES, Fix

_SAFE: tuple[Fix, ...] = ("snap", "round")


def fixes_named(names: Collection[str]) -> tuple[Fix, ...]:
    """Fixes by their names.

    Raises:
        DatasetError: if there is none of that name.
    """
    unknown = [name for name in names if name not in FIXES]
    if unknown:
        raise DatasetError(f"--fix {', '.join(unknown)}: no such fix; there are: {', '.join(FIXES)}")
    return tuple(fix for fix in FIXES if fix in names)


def chosen(fixes: Collection[Fix]) -> frozenset[Fix]:
    """Each fix by its own name."""
    return frozenset(fixes) - {"safe"} | (frozenset(_SAFE) if "safe" in fixes else frozenset())


def with_fixes(dataset: SourceDataset, fixes: Collection[Fix]) -> SourceDataset:
    """The dataset with fixes in its settings: cases are made anew when others are chosen. 4D is split if asked for."""
    names = chosen(fixes)
    if not names:
        return dataset
    marked = replace(dataset, settings=dataset.settings | {"fix": sorted(names)})
    return _split(marked) if "split-4d" in names else marked


def fixes_of(dataset: SourceDataset) -> frozenset[Fix]:
    """What is to be repaired."""
    return frozenset(dataset.settings.get("fix", ()))


def load(case: SourceCase, fixes: frozenset[Fix]) -> LoadedCase:
    """Read a case by its loader; of plain files, headers that are sheared by a little are freed of shear."""
    try:
        return (case.load or load_files)(case, fixes)
    except GeometryError as error:
        if error.kind != "sheared" or "snap" not in fixes or case.load is not None:
            raise
        return _load_without_shear(case)


def repair(loaded: LoadedCase, fixes: Collection[Fix]) -> LoadedCase:
    """A case with what can be repaired repaired, and a note for each."""
    if not fixes or not loaded.channels:
        return loaded
    first, *others = loaded.channels
    grid, notes = first.volume.geometry, list(loaded.notes)
    channels = [first]
    for number, channel in enumerate(others, start=1):
        channels.append(_snapped(channel, grid, f"channel {number}", notes) if "snap" in fixes else channel)
    label = loaded.label
    if label is not None and "round" in fixes:
        label = _rounded(label, notes)
    if label is not None and "snap" in fixes:
        label = _snapped(label, grid, "label", notes)
    if label is not None and "resample-labels" in fixes:
        label = _resampled(label, grid, notes)
    return LoadedCase(tuple(channels), label, tuple(notes))


def _load_without_shear(case: SourceCase) -> LoadedCase:
    parts: list[Loaded] = []
    notes = []
    for path in (*case.images, *case.labels):
        volumes, moved = read_without_shear(path)
        parts += [Loaded(volume, None if moved else path) for volume in volumes]
        if moved:
            notes.append(f"{path.name}: sheared axes set at right angles; voxels moved by {moved:.2g} at most")
    if len(case.labels) == 1:
        return LoadedCase(tuple(parts[:-1]), parts[-1], tuple(notes))
    return LoadedCase(tuple(parts), None, tuple(notes))


def _snapped(part: Loaded, grid: Geometry, name: str, notes: list[str]) -> Loaded:
    here = part.volume.geometry
    differences = grid.differences(here)
    if not differences or not can_snap(here, grid):
        return part
    moved = distance_in_voxels(here.canonical(), grid.canonical())
    notes.append(
        f"{name}: header set to that of the image ({'; '.join(differences)}); voxels moved by {moved:.2g} at most"
    )
    return Loaded(snapped(part.volume, grid))


def _rounded(label: Loaded, notes: list[str]) -> Loaded:
    array = label.volume.array
    if np.issubdtype(array.dtype, np.integer) or not np.isfinite(array).all():
        return label
    whole = rounded(label.volume)
    changed = int(np.count_nonzero(whole.array != array))
    if changed == 0:
        return label
    notes.append(f"label: {changed} voxels rounded, by {np.abs(whole.array - array).max():.2g} at most")
    return Loaded(whole)


def _resampled(label: Loaded, grid: Geometry, notes: list[str]) -> Loaded:
    here = label.volume.geometry
    if not grid.differences(here):
        return label
    whole = as_labels(label.volume, label.file or Path("label"))  # what is soft must not pass for labels
    moved = on_grid_of(whole, grid)
    before, after = (np.count_nonzero(one.array) * one.geometry.voxel_ml for one in (whole, moved))
    notes.append(
        f"label resampled from {_told(here)} onto the image's {_told(grid)} by nearest neighbour; "
        f"{before:.4g} ml of foreground became {after:.4g} ml"
    )
    return Loaded(moved)


def _told(grid: Geometry) -> str:
    return f"{'x'.join(map(str, grid.shape))} at {'x'.join(f'{mm:.3g}' for mm in grid.spacing_mm)} mm"


def _split(dataset: SourceDataset) -> SourceDataset:
    """One channel per volume of the 4D files, where the dataset names but one; as many as the first case has."""
    if len(dataset.channel_names) != 1:
        return dataset
    (name,) = dataset.channel_names
    for case in dataset.cases:
        try:
            n_volumes = len(read_channels(case.images[0])) if len(case.images) == 1 and case.load is None else 1
        except (PipelineError, OSError):
            continue  # it will be a row of its own
        names = tuple(f"{name}_{number}" for number in range(n_volumes)) if n_volumes > 1 else dataset.channel_names
        return replace(dataset, channel_names=names)
    return dataset
