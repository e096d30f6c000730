"""Cases from images and label files that are known by fields: what most sources come down to."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeVar

from dataset_conversion.checking.loading import load_files
from dataset_conversion.layout import Loader, Part, SourceCase, SourceDataset
from dataset_conversion.slicer import segments_by_name
from dataset_conversion.templates import CHANNEL, CLASS, Match, Template
from moe_pipeline.errors import DatasetError
from moe_pipeline.imaging.io.files import has_image_suffix
from moe_pipeline.records.names import joined

_Key = TypeVar("_Key")


def match_files(
    source: Path, files: Iterable[Path], images: Template, masks: Template
) -> tuple[list[Match], list[Match]]:
    """Image files and label files by their templates; what fits both is a label file.

    Raises:
        DatasetError: if the templates contradict each other, or one fits no file.
    """
    if foreign := masks.names - images.names - {CLASS}:
        named = ", ".join(f"{{{name}}}" for name in sorted(foreign))
        raise DatasetError(f"{masks.text!r}: {named} does not come in the template of the images, {images.text!r}")
    volumes = [path for path in files if has_image_suffix(path)]
    mask_files = masks.matches(volumes, source)
    taken = {match.path for match in mask_files}
    image_files = [match for match in images.matches(volumes, source) if match.path not in taken]
    for kind, template, found in (("image", images, image_files), ("label file", masks, mask_files)):
        if not found:
            there = ", ".join(str(path.relative_to(source)) for path in volumes[:3]) or "none"
            raise DatasetError(f"{source}: no {kind} fits {template.text!r}. Files are such as: {there}")
    return image_files, mask_files


def pair_by_fields(
    source: Path,
    images: Sequence[Match],
    masks: Sequence[Match],
    *,
    channels: Sequence[str] = (),
    labels: dict[str, int] | None = None,
    part: Part = "training",
    on_first_grid: bool = False,
) -> SourceDataset:
    """Cases of images and masks whose fields agree.

    Args:
        source: folder of the dataset, for messages.
        images: files with the fields of their case; with a field `channel` there is one file per channel.
        masks: files with fields that the images have, too; with a field `class` each is the mask of one structure.
        channels: to take, in order; all, by name, if empty. Without a field `channel`: names of the channels.
        labels: name to value; None if unknown. With a field `class`, structures are numbered by name.
        part: what the cases are for. Test cases may go without label.
        on_first_grid: whether to resample the other channels onto the grid of the first.
    """
    numbered = any(CHANNEL in match.fields for match in images)
    names = tuple(channels) or tuple(sorted({match.fields.get(CHANNEL, "image") for match in images}))
    classes = {name: value for value, name in enumerate(sorted(_grouped(masks, _class_of).keys() - {""}), 1)}
    shared = {name for match in masks for name, _ in match.case}
    masks_of = _grouped(masks, partial(_key, names=shared))
    are_maps = labels is None and not classes
    segments = segments_by_name([match.path for match in masks] if are_maps else [])
    cases: list[SourceCase] = []
    faults: dict[str, str] = {}
    for found in _grouped(images, lambda match: match.case).values():
        first, labelled = found[0], masks_of.get(_key(found[0], shared), [])
        if fault := _fault(source, found, labelled, names if numbered else (), part):
            faults[first.case_id] = fault
            continue
        by_channel = {match.fields.get(CHANNEL): match.path for match in found}
        paths = tuple(by_channel[name] for name in names) if numbered else (first.path,)
        mask_files = tuple(match.path for match in labelled)
        if mask_files and (unnamed := segments.faults.get(mask_files[0])):
            faults[first.case_id] = unnamed
            continue
        load = _loader(labelled, classes, on_first_grid)
        if mask_files and mask_files[0] in segments.values:
            own = segments.values[mask_files[0]]
            load = partial(load_files, values=own, on_first_grid=on_first_grid)
        cases.append(SourceCase(first.case_id, paths, mask_files, part, first.patient, load))
    for key in masks_of.keys() - {_key(match, shared) for match in images}:
        lost = masks_of[key][0]
        faults[lost.case_id] = f"{lost.path.relative_to(source)}: a label without image"
    labels = {"background": 0} | classes if classes else segments.labels or labels
    return SourceDataset(
        names, labels, tuple(cases), faults, settings={"on_first_grid": on_first_grid}, notes=segments.notes[:1]
    )


def _fault(source: Path, images: list[Match], masks: list[Match], channels: Sequence[str], part: Part) -> str | None:
    """Why these files are no case."""
    if not masks and part == "training":
        return f"{_listed(source, images[:1])}: an image without label"
    by_channel = _grouped(images, _channel_of)
    for name, found in by_channel.items():
        if len(found) > 1 and (not channels or name in channels):
            named = f"images{f' of channel {name}' * bool(name)}"
            return f"{len(found)} {named}, expected one: {_listed(source, found)}. Keep one, or choose with --images"
    for name, found in _grouped(masks, _class_of).items():
        if len(found) > 1:
            named = f"label files{f' of class {name}' * bool(name)}"
            return f"{len(found)} {named}, expected one: {_listed(source, found)}. Keep one, or choose with --masks"
    missing = [name for name in channels if name not in by_channel]
    if missing:
        return f"no image of channel {', '.join(missing)}, only {', '.join(by_channel)}; --channels says which to take"
    return None


def _loader(masks: list[Match], classes: dict[str, int], on_first_grid: bool) -> Loader | None:
    if not classes and not on_first_grid:
        return None
    of_file = {match.path: (_class_of(match), classes[_class_of(match)]) for match in masks if classes}
    absent = sorted(classes.keys() - {name for name, _ in of_file.values()}) if of_file else []
    notes = (f"no file of {', '.join(absent)}: taken as not there",) if absent else ()
    return partial(load_files, classes=of_file or None, on_first_grid=on_first_grid, notes=notes)


def _channel_of(match: Match) -> str:
    return match.fields.get(CHANNEL, "")


def _class_of(match: Match) -> str:
    return joined(match.fields.get(CLASS, ""))


def _key(match: Match, names: set[str]) -> tuple[tuple[str, str], ...]:
    return tuple(sorted((name, text) for name, text in match.case if name in names))


def _grouped(matches: Iterable[Match], key: Callable[[Match], _Key]) -> dict[_Key, list[Match]]:
    groups: dict[_Key, list[Match]] = {}
    for match in matches:
        groups.setdefault(key(match), []).append(match)
    return groups


def _listed(source: Path, matches: list[Match]) -> str:
    return ", ".join(str(match.path.relative_to(source)) for match in matches)


def together(first: SourceDataset, *others: SourceDataset) -> SourceDataset:
    """One dataset of several that have the same channels and labels, such as its training and its test part."""
    cases = tuple(case for dataset in (first, *others) for case in dataset.cases)
    faults = {case_id: why for dataset in (first, *others) for case_id, why in dataset.faults.items()}
    return replace(first, cases=cases, faults=faults)
