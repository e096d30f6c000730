"""One case of any source: loaded, checked, written whole or not at all."""

import shutil
from pathlib import Path

import numpy as np

from dataset_conversion.checking.case_check import InspectedCase, inspect_case
from dataset_conversion.checking.fixing import fixes_of, load, repair
from dataset_conversion.layout import Loaded, LoadedCase, SourceCase, SourceDataset
from dataset_conversion.state import ConversionState
from moe_pipeline.errors import ImageError
from moe_pipeline.files import atomic_path
from moe_pipeline.imaging.io.native import check_is_there, write_native
from moe_pipeline.imaging.volume import Volume
from moe_pipeline.journal.written import Written
from moe_pipeline.records.dataset import ConversionRow

FILE_ENDING = ".nii.gz"


def convert_case(case: SourceCase, dataset: SourceDataset, state: ConversionState) -> ConversionRow:
    """Check one case, write it and note what it was made from, unless that was done before.

    A failure, foreseen or not, becomes a row with its reason, and leaves no file of the case behind but those that are
    not ours.
    """

    def failed(message: str) -> ConversionRow:
        for name in target_names(case, len(dataset.channel_names)):
            state.own.remove(name)
        return ConversionRow(case_id=case.case_id, status="failed", message=message)

    return state.crashes.guarded(case.case_id, lambda: _convert(case, dataset, state), failed)


def _convert(case: SourceCase, dataset: SourceDataset, state: ConversionState) -> ConversionRow:
    if (present := row_if_present(case, dataset, state)) is not None:
        return present
    targets, own = target_names(case, len(dataset.channel_names)), state.own
    own.check(targets)
    for path in (*case.images, *case.labels):
        check_is_there(path)
    stamps = state.stamp(case)  # first: the files may change meanwhile
    fixes = fixes_of(dataset)
    loaded = repair(load(case, fixes), fixes)
    inspected = inspect_case(loaded, case, dataset)
    if inspected.errors:
        raise ImageError("; ".join(inspected.errors))
    label = _final_label(loaded, inspected, dataset)
    written = [*loaded.channels, *([label] if label else [])]
    notes = [note for part, target in zip(written, targets, strict=True) if (note := _write(part, own, target))]
    message = "; ".join((*loaded.notes, *inspected.warnings, *notes))
    state.add(case, stamps, _values(inspected, dataset), message)
    return ConversionRow(case_id=case.case_id, status="converted", message=message)


def row_if_present(case: SourceCase, dataset: SourceDataset, state: ConversionState) -> ConversionRow | None:
    """The row of a case that an earlier run has converted from the same files, all of which are there."""
    own, targets = state.own, target_names(case, len(dataset.channel_names))
    if not all((own.folder / name).is_file() for name in targets) or not (known := state.find(case)):
        return None
    changed = [name for name in targets if _was_changed(own, name)]
    told = f"{', '.join(changed)}: changed since it was converted, and left so" if changed else ""
    message = "; ".join(part for part in (told, known.message) if part)
    return ConversionRow(case_id=case.case_id, status="present", message=message)


def _was_changed(own: Written, name: str) -> bool:
    """Whether a converted file is not as it was written; of images, which are large, only the length is looked at."""
    if name not in own:
        return False  # an earlier version wrote it, without a record
    if name.startswith("labels"):
        return own.is_foreign(name)
    return not own.has_length(name, (own.folder / name).stat().st_size)


def target_names(case: SourceCase, n_channels: int) -> list[str]:
    """Files of a converted case, relative to the new dataset: channels in order, then the label."""
    suffix = "Tr" if case.part == "training" else "Ts"
    names = [f"images{suffix}/{case.case_id}_{channel:04d}{FILE_ENDING}" for channel in range(n_channels)]
    return names + ([f"labels{suffix}/{case.case_id}{FILE_ENDING}"] if case.labels else [])


def _final_label(loaded: LoadedCase, inspected: InspectedCase, dataset: SourceDataset) -> Loaded | None:
    """The label in the values of the new dataset; without its file where that holds anything else."""
    labels = inspected.labels
    if loaded.label is None or labels is None:
        return None
    if dataset.value_map is not None:
        return Loaded(_remapped(labels, dataset.value_map))
    is_as_stored = np.issubdtype(loaded.label.volume.array.dtype, np.integer)
    return Loaded(labels, loaded.label.file if is_as_stored else None)


def _values(inspected: InspectedCase, dataset: SourceDataset) -> list[int]:
    """Distinct values of the label that was written."""
    return sorted({(dataset.value_map or {}).get(value, value) for value in inspected.counts})


def _remapped(labels: Volume, value_map: dict[int, int]) -> Volume:
    new = np.zeros(max(value_map) + 1, np.uint8 if max(value_map.values()) <= np.iinfo(np.uint8).max else np.uint16)
    new[list(value_map)] = list(value_map.values())
    return Volume(new[labels.array], labels.geometry)


def _write(part: Loaded, own: Written, target: str) -> str:
    """Copy the file where its format fits, write it anew otherwise; says so in that case."""
    with own.writing(target) as path:
        if part.file is not None and part.file.name.lower().endswith(FILE_ENDING):
            with atomic_path(path) as temporary:
                shutil.copyfile(part.file, temporary)
            return ""
        write_native(part.volume, path)
    return f"{Path(target).name} written anew ({part.volume.array.dtype})"
