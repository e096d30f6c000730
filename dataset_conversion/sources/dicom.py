"""DICOM: series anywhere below a folder, with RTSTRUCT or SEG files that say what is where.

A contour or segment file goes with the series that it names or, where that is not here, with the one of the patient
that it fits: matching is by place, never by slice UIDs. Classes are the names of regions and segments, numbered in the
order of the alphabet; `--labels` renames and merges them. Where structures overlap, the smallest one of the case keeps
the voxels (see `masks`). Of FRACTIONAL segments, what reaches `--threshold` is inside.

Series without labels become test cases. A series of several volumes (b-values, time points, echoes) becomes a case of
each, all with its labels. All cases are of one modality; `--channels MR` chooses where there are several.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dataset_conversion.layout import Loaded, LoadedCase, Options, SourceCase, SourceDataset
from dataset_conversion.masks import Mask, merge_masks
from moe_pipeline.errors import DatasetError, ImageError, PipelineError
from moe_pipeline.imaging.dicom import find_series_folders
from moe_pipeline.imaging.dicom.labels import DEFAULT_THRESHOLD, LabelFile, read_structures
from moe_pipeline.imaging.dicom.pixels import read_stack
from moe_pipeline.imaging.dicom.stack import SeriesVolume
from moe_pipeline.imaging.dicom.tree import ImageSeries, Tree, read_tree, series_of
from moe_pipeline.imaging.geometry import Geometry
from moe_pipeline.imaging.volume import Volume
from moe_pipeline.records.check import Fix

_BACKGROUND = "background"
_UNFIT = re.compile(r"[^A-Za-z0-9._-]+")


@dataclass(slots=True)
class _Labelled:
    """A series with the files that label it."""

    series: ImageSeries
    labels: list[LabelFile] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def files(self) -> tuple[Path, ...]:
        """Images and labels."""
        return (*self.series.files, *(label.path for label in self.labels))

    @property
    def doubled(self) -> dict[str, int]:
        """Names that several structures have, and how many."""
        counts = Counter(name for label in self.labels for name in label.names)
        return {name: n for name, n in counts.items() if n > 1}


def detect(source: Path) -> bool:
    """There is a DICOM image somewhere below."""
    return next(find_series_folders(source), None) is not None


def describe(source: Path, options: Options) -> SourceDataset:
    """One case per volume of each series.

    Raises:
        DatasetError: if there is no series, or modalities are mixed and --channels does not choose one.
        PipelineError: if pydicom is not installed.
    """
    tree = read_tree(source)
    if not tree.series:
        told = _alike(tree.faults).values()
        raise DatasetError("\n  ".join([f"{source}: no DICOM image that can be read", *told]))
    alike = _alike(tree.faults).items()
    faults = {_id_of(path.relative_to(source).as_posix()) or source.resolve().name: reason for path, reason in alike}
    labelled, unmatched = _with_labels(tree, source)
    modality, notes = _one_modality(source, labelled, options)
    chosen = [one for one in labelled if one.series.modality == modality]
    names = sorted({name for one in chosen for label in one.labels for name in label.names} - {_BACKGROUND})
    values = {name: value for value, name in enumerate(names, start=1)}
    threshold = DEFAULT_THRESHOLD if options.threshold is None else options.threshold
    ids = _case_ids([one.series for one in chosen], source)
    return SourceDataset(
        (modality,),
        {_BACKGROUND: 0, **values},
        tuple(case for one in chosen for case in _cases(one, ids[one.series.key], values, threshold)),
        faults | unmatched,
        settings={"threshold": threshold},
        notes=(*notes, *_passed_over(tree), *_on_names(chosen), *_without_labels(chosen)),
        left_out={path: f"passed over: {why}" for path, why in tree.passed_over.items()}
        | dict.fromkeys(tree.faults, "DICOM files that cannot be used, see the rows")
        | {path: "of series of other modalities" for one in labelled if one not in chosen for path in one.files},
    )


def _on_names(labelled: list[_Labelled]) -> tuple[str, ...]:
    """Names that a user should look at."""
    names = {name for one in labelled for label in one.labels for name in label.names}
    alike: dict[str, list[str]] = defaultdict(list)
    for name in sorted(names):
        alike[re.sub(r"[\s_-]", "", name).casefold()].append(name)
    notes = [f"{' and '.join(map(repr, same))} are classes of their own" for same in alike.values() if len(same) > 1]
    if _BACKGROUND in names:
        notes.append(f"structures called {_BACKGROUND} are left out: it is the name of what belongs to no class")
    return tuple(notes)


def _without_labels(labelled: list[_Labelled]) -> tuple[str, ...]:
    """Series beside labelled ones, such as localizers and other reconstructions: a user may not want them."""
    patients = {one.series.patient for one in labelled if one.labels}
    n = sum(not one.labels and one.series.patient in patients for one in labelled)
    return (f"{n} series of patients who have labels on other series become test cases (imagesTs)",) if n else ()


def _passed_over(tree: Tree) -> tuple[str, ...]:
    if not tree.passed_over:
        return ()
    counts = ", ".join(f"{n} {why}" for why, n in sorted(Counter(tree.passed_over.values()).items()))
    return (f"{len(tree.passed_over)} files that are no slices are passed over: {counts}",)


def _alike(faults: Mapping[Path, str]) -> dict[Path, str]:
    """Faults that several files of a folder share, once and with their number."""
    by_reason: dict[tuple[Path, str], list[Path]] = {}
    for path, told in faults.items():
        by_reason.setdefault((path.parent, told.removeprefix(f"{path}: ")), []).append(path)
    return {
        paths[0] if len(paths) == 1 else folder: faults[paths[0]]
        if len(paths) == 1
        else f"{folder}: {len(paths)} files, such as {paths[0].name}: {reason}"
        for (folder, reason), paths in by_reason.items()
    }


def _with_labels(tree: Tree, source: Path) -> tuple[list[_Labelled], dict[str, str]]:
    """Every series with its label files, and why label files go with none."""
    found = {series.key: _Labelled(series) for series in tree.series}
    faults = {}
    for label in tree.labels:
        if not label.names:
            continue  # points, empty regions: nothing to fill
        try:
            series, note = series_of(label, tree.series)
        except PipelineError as error:
            faults[_id_of(label.path.relative_to(source).as_posix())] = str(error)
            continue
        found[series.key].labels.append(label)
        found[series.key].notes += [note] if note else []
    for one in found.values():
        if n := sum(path.parent == one.series.folder for path in tree.faults):
            one.notes.append(f"{n} files beside its slices cannot be read: there may have been more slices")
    return list(found.values()), faults


def _one_modality(source: Path, labelled: list[_Labelled], options: Options) -> tuple[str, tuple[str, ...]]:
    """The modality of the dataset, and a note on the series of others."""
    counts = Counter(one.series.modality for one in labelled)
    candidates = {one.series.modality for one in labelled if one.labels} or set(counts)
    wanted = candidates if not options.channels else set(options.channels) & set(counts)
    if len(wanted) != 1:
        there = ", ".join(f"{n} {modality}" for modality, n in sorted(counts.items()))
        choice = " or ".join(f"--channels {modality}" for modality in sorted(candidates))
        raise DatasetError(f"{source}: needs series of one modality, found {there}; {choice} chooses")
    (modality,) = wanted
    others = {name: n for name, n in sorted(counts.items()) if name != modality}
    if not others:
        return modality, ()
    left_out = ", ".join(f"{n} {name or 'nameless'}" for name, n in others.items())
    return modality, (f"series of other modalities than {modality} are left out: {left_out}",)


def _case_ids(series: list[ImageSeries], source: Path) -> dict[tuple[str, ...], str]:
    """Key of a series to case id: the patient, with the number of the series where it has several."""
    by_patient: dict[str, list[ImageSeries]] = defaultdict(list)
    for one in series:
        by_patient[_id_of(one.patient or one.folder.relative_to(source).as_posix()) or source.resolve().name].append(
            one
        )
    ids = {}
    for patient, members in by_patient.items():
        numbers = [one.number for one in members]
        are_telling = None not in numbers and len(set(numbers)) == len(members)
        for ordinal, one in enumerate(members, start=1):
            tail = f"-s{one.number}" if are_telling else f"-{ordinal}"
            ids[one.key] = patient + (tail if len(members) > 1 else "")
    return ids


def _id_of(text: str) -> str:
    return _UNFIT.sub("-", text.replace("/", "_")).strip(".-_")


def _cases(one: _Labelled, case_id: str, values: dict[str, int], threshold: float) -> Iterator[SourceCase]:
    labels = tuple(label.path for label in one.labels)
    make = partial(
        SourceCase,
        images=one.series.files,
        labels=labels,
        part="training" if labels else "test",
        patient=one.series.patient or None,
    )
    fault = one.series.fault
    if fault is not None:
        yield make(case_id, load=partial(_refuse, fault=fault))
        return
    for volume in one.series.volumes:
        load = partial(_load, volume=volume, one=one, values=values, threshold=threshold)
        yield make(f"{case_id}-{volume.short}" if volume.short else case_id, load=load)


def _repeated(doubled: Iterable[str], labels: list[LabelFile]) -> ImageError:
    """What to do about structures of one name."""
    name = next(iter(doubled))
    files = [label.path.name for label in labels for one in label.names if one == name]
    where = f"in several files for one series: {', '.join(files)}"
    if len(set(files)) == 1:
        where = f"is the name of {len(files)} regions or segments in {files[0]}"
    return ImageError(
        f"{labels[0].path.parent}: {', '.join(doubled)} {where}. Keep one of them, give each a name of its own or, if "
        "they are one class, join them: moe convert --fix union",
        kind="duplicate",
    )


def _refuse(_: SourceCase, __: frozenset[Fix], *, fault: PipelineError) -> LoadedCase:
    """A case that cannot be read, and why: raised only now, so that it is a row like any other."""
    raise fault.with_traceback(None)


def _load(
    case: SourceCase,
    fixes: frozenset[Fix],
    *,
    volume: SeriesVolume,
    one: _Labelled,
    values: dict[str, int],
    threshold: float,
) -> LoadedCase:
    notes = list(one.notes)
    doubled = one.doubled
    if doubled and "union" not in fixes:
        raise _repeated(doubled, one.labels)
    if volume.title:
        notes.append(f"one of {len(one.series.volumes)} volumes of its series: {volume.title}")
    image = read_stack(volume.stack)
    if not case.labels:
        return LoadedCase((Loaded(image),), None, tuple(notes))
    masks = _masks(case.labels, image.geometry, values, threshold, notes, doubled)
    labels, overlaps = merge_masks(masks, image.geometry.shape)
    return LoadedCase((Loaded(image),), Loaded(Volume(labels, image.geometry)), (*notes, *overlaps))


def _masks(
    paths: Iterable[Path],
    geometry: Geometry,
    values: dict[str, int],
    threshold: float,
    notes: list[str],
    doubled: Mapping[str, int],
) -> Iterator[Mask]:
    joined: dict[str, NDArray[np.bool_]] = {}
    for path in paths:
        for structure in read_structures(path, geometry, threshold, names_may_repeat=bool(doubled)):
            notes += structure.notes
            if structure.n_voxels == 0:
                notes.append(f"{structure.name}: no voxel's centre lies inside")
            elif structure.name in doubled and structure.name in values:
                whole = joined.setdefault(structure.name, np.zeros(geometry.shape, bool, order="F"))
                whole[tuple(slice(*side) for side in structure.box)] |= structure.part
            elif structure.name in values:
                x, y, z = (start for start, _ in structure.box)
                yield Mask(structure.name, values[structure.name], structure.part, (x, y, z))
    for name, whole in joined.items():
        notes.append(f"{name}: union of {doubled[name]} structures of that name")
        yield Mask(name, values[name], whole)
