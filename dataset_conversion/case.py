"""One case of any source: loaded, checked, written whole or not at all."""

import shutil
from pathlib import Path

import numpy as np

from dataset_conversion.fixing import fixes_of, load, mend
from dataset_conversion.layout import Loaded, LoadedCase, SourceCase, SourceDataset
from dataset_conversion.state import ConversionState
from moe_pipeline.errors import GeometryError, ImageError, PipelineError
from moe_pipeline.files import atomic_path
from moe_pipeline.imaging.files import as_labels, check_finite, label_values
from moe_pipeline.imaging.native import write_native
from moe_pipeline.imaging.volume import Volume
from moe_pipeline.records.dataset import ConversionRow

FILE_ENDING = ".nii.gz"
_MAX_LISTED = 10


def convert_case(case: SourceCase, dataset: SourceDataset, out: Path, state: ConversionState) -> ConversionRow:
    """Check one case, write it and note what it was made from, unless that was done before.

    A failure becomes a row with its reason, and leaves no file of the case behind.
    """
    targets = target_paths(case, len(dataset.channel_names), out)
    try:
        if all(path.is_file() for path in targets) and state.is_current(case):
            return ConversionRow(case_id=case.case_id, status="present")
        stamps = state.stamp(case)  # first: the files may change meanwhile
        fixes = fixes_of(dataset)
        loaded = mend(load(case, fixes), fixes)
        _check_channels(loaded, case, dataset)
        label = _checked_label(loaded, case, dataset)
        written = [*loaded.channels, *([label] if label else [])]
        notes = [note for part, target in zip(written, targets, strict=True) if (note := _write(part, target))]
        state.add(case, stamps, label_values(label.volume.array) if label else [])
    except (PipelineError, OSError) as error:
        for path in targets:
            path.unlink(missing_ok=True)
        return ConversionRow(case_id=case.case_id, status="failed", message=str(error))
    return ConversionRow(case_id=case.case_id, status="converted", message="; ".join((*loaded.notes, *notes)))


def target_paths(case: SourceCase, n_channels: int, out: Path) -> list[Path]:
    """Files of a converted case: channels in order, then the label."""
    suffix = "Tr" if case.part == "training" else "Ts"
    paths = [out / f"images{suffix}" / f"{case.case_id}_{channel:04d}{FILE_ENDING}" for channel in range(n_channels)]
    return paths + ([out / f"labels{suffix}" / f"{case.case_id}{FILE_ENDING}"] if case.labels else [])


def _check_channels(loaded: LoadedCase, case: SourceCase, dataset: SourceDataset) -> None:
    channels = loaded.channels
    if len(channels) != len(dataset.channel_names):
        raise ImageError(
            f"{case.images[0]}: {len(channels)} channels, dataset.json names {len(dataset.channel_names)} "
            f"({', '.join(dataset.channel_names)})"
        )
    grid = channels[0].volume.geometry
    for number, channel in enumerate(channels):
        if faults := grid.differences(channel.volume.geometry):
            raise GeometryError(f"channel 0 and channel {number} lie on different grids: {'; '.join(faults)}")
        check_finite(channel.volume.array, channel.file or case.images[min(number, len(case.images) - 1)])


def _checked_label(loaded: LoadedCase, case: SourceCase, dataset: SourceDataset) -> Loaded | None:
    """The label in the values of the new dataset; without its file where that holds anything else."""
    if loaded.label is None:
        return None
    path = loaded.label.file or case.labels[0]
    native = loaded.label.volume
    if faults := loaded.channels[0].volume.geometry.differences(native.geometry):
        raise GeometryError(f"{path.name}: image and label lie on different grids: {'; '.join(faults)}")
    labels = as_labels(native, path)
    if dataset.value_map is not None:
        return Loaded(_remapped(labels, dataset.value_map, path))
    if dataset.labels is not None:
        named = sorted(dataset.labels.values())
        _refuse_unknown(labels, set(named), path, f"dataset.json, which names {', '.join(map(str, named))}")
    return Loaded(labels, loaded.label.file if np.issubdtype(native.array.dtype, np.integer) else None)


def _remapped(labels: Volume, value_map: dict[int, int], path: Path) -> Volume:
    _refuse_unknown(labels, set(value_map), path, f"--labels, which maps {', '.join(map(str, sorted(value_map)))}")
    new = np.zeros(max(value_map) + 1, np.uint8 if max(value_map.values()) <= np.iinfo(np.uint8).max else np.uint16)
    new[list(value_map)] = list(value_map.values())
    return Volume(new[labels.array], labels.geometry)


def _refuse_unknown(labels: Volume, known: set[int], path: Path, where: str) -> None:
    unknown = [value for value in label_values(labels.array) if value not in known]
    if unknown:
        raise ImageError(f"{path.name}: label values {', '.join(map(str, unknown[:_MAX_LISTED]))} are not in {where}")


def _write(part: Loaded, target: Path) -> str:
    """Copy the file where its format fits, write it anew otherwise; says so in that case."""
    if part.file is not None and part.file.name.lower().endswith(FILE_ENDING):
        with atomic_path(target) as temporary:
            shutil.copyfile(part.file, temporary)
        return ""
    write_native(part.volume, target)
    return f"{target.name} written anew ({part.volume.array.dtype})"
