"""Any known source to an nnU-Net v2 raw folder."""

import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

from dataset_conversion.case import FILE_ENDING, convert_case, target_names
from dataset_conversion.checking.fixing import with_fixes
from dataset_conversion.label_map import LabelMap, apply
from dataset_conversion.layout import Options, SourceCase, SourceDataset
from dataset_conversion.registry import choose_source, describe_source
from dataset_conversion.state import STATE, ConversionState
from moe_pipeline.datasets.accounting import Entry, Handled, account_for, of_left_out, walk
from moe_pipeline.errors import DatasetError
from moe_pipeline.imaging.io.memory import case_bytes
from moe_pipeline.journal.crashes import CRASHES
from moe_pipeline.journal.written import Written
from moe_pipeline.parallel import run_each
from moe_pipeline.paths import RawFolder
from moe_pipeline.progress import Progress, silent
from moe_pipeline.records.cases import Accounting
from moe_pipeline.records.check import Fix
from moe_pipeline.records.dataset import ConversionReport, ConversionRow, DatasetJson
from moe_pipeline.records.names import fault_of_name, fault_of_title, printable, shown

REPORT = "conversion.json"
_FOLDERS = ("imagesTr", "labelsTr", "imagesTs", "labelsTs")
_NO_OPTIONS = Options()

ConvertCases = Callable[[SourceDataset, ConversionState, Progress, str], list[ConversionRow]]
"""Whoever converts all cases of a source; also told the name of the stage. Notes what is done in the state."""


def convert(
    source: Path,
    out: Path,
    source_format: str | None = None,
    progress: Progress = silent,
    *,
    options: Options = _NO_OPTIONS,
    label_map: LabelMap | None = None,
    fixes: Collection[Fix] = (),
    run: ConvertCases | None = None,
) -> ConversionReport:
    """Make an nnU-Net v2 raw folder from a dataset in another layout; the source is only read.

    A case that cannot be converted becomes a row of the report and the others go on. Cases finished by an earlier,
    perhaps killed run are left alone unless their source changed. The name of the source is written first, so that
    no other source gets mixed in, and dataset.json last.

    Args:
        source: folder of the dataset.
        out: folder to write, named like the new dataset.
        source_format: name of a converter; guessed if None.
        progress: told after each case.
        options: what the layout leaves open.
        label_map: classes of the new dataset, if they are not those of the source.
        fixes: what may be repaired on the way; each row says what was.
        run: who converts the cases, if not threads of this process.

    Returns:
        What became of each case, also saved as conversion.json.

    Raises:
        DatasetError: if the source is not recognised, `out` is unsuitable, an option or the label map does not fit the
            source, or no training case could be converted.
        RecordError: if the source's own description breaks its schema.
    """
    began = time.monotonic()
    name, described = describe(source, source_format, options, label_map)
    entries = walk(source)
    described = with_fixes(with_closed(source, described, entries), fixes)
    _check_target(source, name, out)
    state = ConversionState(out / STATE, source, described)
    own = state.own
    own.check((REPORT, RawFolder.DESCRIPTION, CRASHES))
    _claim(source, name, own)
    rows = (run or _convert_all)(described, state, progress, f"converting {source.name}")
    if state.crashes.path.is_file():
        own.adopt([CRASHES])
    rows += [ConversionRow(case_id=case, status="failed", message=why) for case, why in described.faults.items()]
    converted = {row.case_id for row in rows if row.status != "failed"}
    done = [case for case in described.cases if case.case_id in converted]
    n_channels = len(described.channel_names)
    has_training = any(case.part == "training" for case in described.cases)
    if not done or (has_training and not any(case.part == "training" for case in done)):
        reasons = [f"{printable(row.case_id)}: {row.message}" for row in rows if row.status == "failed"]
        summed = [one.lines()[0] for one in _accounting(source, described, entries, rows)]
        raise DatasetError("\n  ".join([f"{source}: no training case could be converted", *reasons[:20], *summed]))
    _remove_vanished(own, {path for case in done for path in target_names(case, n_channels)})
    labels = _final_labels(described, state.label_values(case.case_id for case in done))
    own.write_text(RawFolder.DESCRIPTION, _describe(described, labels, done).as_text())
    report = ConversionReport(
        source=str(source.resolve()),
        source_format=name,
        folder=str(out),
        rows=tuple(sorted(rows, key=lambda row: row.case_id)),
        accounting=_accounting(source, described, entries, rows),
        notes=(
            *described.notes,
            *_told_regions(described),
            *(() if has_training else ("no case has a label: all are in imagesTs, to predict",)),
        ),
        warnings=(*told_missing(described), *one_patient(done)),
        options={key: value for key, value in asdict(options).items() if value},
        seconds=round(time.monotonic() - began, 3),
    )
    own.write_text(REPORT, report.as_text())
    return report


def describe(
    source: Path, source_format: str | None, options: Options, label_map: LabelMap | None
) -> tuple[str, SourceDataset]:
    """Name of the layout of a source, and what it holds, in the classes of the label map; raises as `convert`."""
    name = choose_source(source, source_format, by_template=bool(options.images))
    described = _without_duplicates(_with_sound_names(source, describe_source(source, name, options)))
    if label_map is not None:
        return name, apply(label_map, described)
    if described.refusals:
        raise DatasetError("\n  ".join([f"{source}: its labels cannot be used", *described.refusals]))
    return name, described


def _convert_all(
    described: SourceDataset, state: ConversionState, progress: Progress, stage: str
) -> list[ConversionRow]:
    work = partial(convert_case, dataset=described, state=state)
    return list(run_each(work, described.cases, source_bytes, stage, progress))


def one_patient(cases: Collection[SourceCase]) -> tuple[str, ...]:
    """A note if all training cases are of one patient: then no fold can hold any back."""
    whose = [case.patient for case in cases if case.part == "training"]
    if len(whose) < 2 or None in whose or len(set(whose)) > 1:
        return ()
    return (
        f"all {len(whose)} training cases are of one patient ({whose[0]}), so that no fold holds any back for "
        "validation. If they are different people, say who is who in dataset.json (`patients`)",
    )


def with_closed(source: Path, described: SourceDataset, entries: Iterable[Entry]) -> SourceDataset:
    """Also with a fault for what cannot be opened and belongs to no case: nobody knows what is in it."""
    known = {path for case in described.cases for path in (*case.images, *case.labels)} | set(described.left_out)
    told = " ".join(described.faults.values())
    closed = {
        entry.path.relative_to(
            source
        ).as_posix(): f"one of the {entry.closed}: what it holds is not known. Open it or fetch it"
        for entry in entries
        if entry.closed and entry.path not in known and entry.path.name not in told
    }
    return replace(described, faults=closed | described.faults)


def _accounting(
    source: Path, described: SourceDataset, entries: Iterable[Entry], rows: Iterable[ConversionRow]
) -> tuple[Accounting, ...]:
    failed = {row.case_id: row.message for row in rows if row.status == "failed"}
    return account(source, described, entries, failed)


def account(
    source: Path, described: SourceDataset, entries: Iterable[Entry], failed: Mapping[str, str]
) -> tuple[Accounting, ...]:
    """Cases and files of a source: found = used + left out; `failed` is case id to reason."""
    files = {case.case_id: (*case.images, *case.labels) for case in described.cases}
    used = {case_id: paths for case_id, paths in files.items() if case_id not in failed}
    lost = of_left_out(path for case_id, paths in files.items() if case_id in failed for path in paths)
    return account_for(source, entries, Handled(used, failed, lost | described.left_out, n_missing(described)))


def n_missing(described: SourceDataset) -> int:
    """Training cases that the description counts beyond all that are here; those held back for tests are here, too."""
    here = {case.case_id for case in described.cases} | described.faults.keys()
    return max((described.n_counted or 0) - len(here), 0)


def told_missing(described: SourceDataset) -> tuple[str, ...]:
    """A note if there are such."""
    counted = f"numTraining counts {described.n_counted} training cases"
    if n := n_missing(described):
        return (f"{counted}, of which {n} are not here: copy them, or correct it",)
    here = sum(case.part == "training" for case in described.cases)
    more = described.n_counted is not None and here > described.n_counted
    return (f"{counted}, but {here} are here: correct it, or take out those that do not belong",) if more else ()


def _told_regions(described: SourceDataset) -> tuple[str, ...]:
    names = [name for name, value in described.regions.get("labels", {}).items() if isinstance(value, list)]
    told = f"{', '.join(names)}: regions are kept, and scored by moe evaluate; to train, say with --labels what is what"
    return (told,) if names else ()


def source_bytes(case: SourceCase) -> int:
    """Roughly the memory that a case takes."""
    return case_bytes(case.images) * len(case.images) if case.load is None else case_bytes(case.images)


def _with_sound_names(source: Path, described: SourceDataset) -> SourceDataset:
    """Without the cases whose id cannot be a file name."""
    for name in described.labels or {}:
        if why := fault_of_title(name):
            raise DatasetError(f"{source}: {shown(name)} cannot be the name of a class: {why}; rename it")
    whys = {case.case_id: fault_of_name(case.case_id) for case in described.cases}
    unsound = {name: f"{shown(name)} cannot be a case id: {why}; rename its files" for name, why in whys.items() if why}
    kept = tuple(case for case in described.cases if case.case_id not in unsound)
    return replace(described, cases=kept, faults=described.faults | unsound)


def _without_duplicates(described: SourceDataset) -> SourceDataset:
    of_id: dict[str, list[SourceCase]] = {}
    for case in described.cases:
        same = of_id.setdefault(case.case_id, [])
        if case.load is not None or all((case.images, case.labels) != (one.images, one.labels) for one in same):
            same.append(case)  # the same files, listed twice, are one case
    doubled = {
        case_id: f"{len(cases)} cases have this id: {' and '.join(str(case.images[0]) for case in cases[:2])}; "
        "give each a name of its own"
        for case_id, cases in of_id.items()
        if len(cases) > 1
    }
    kept = tuple(case for case_id, cases in of_id.items() if case_id not in doubled for case in cases)
    return replace(described, cases=kept, faults=described.faults | doubled)


def _check_target(source: Path, source_format: str, out: Path) -> None:
    if out.resolve() == source.resolve() or source.resolve() in out.resolve().parents:
        raise DatasetError(f"{out}: lies inside the source {source}, which is never written to. Choose another folder.")
    if (out / REPORT).is_file():
        earlier = ConversionReport.load(out / REPORT)
        if (earlier.source, earlier.source_format) != (str(source.resolve()), source_format):
            raise DatasetError(
                f"{out}: already holds a conversion of {earlier.source} ({earlier.source_format}). "
                "Remove it, or choose another name."
            )
    elif any((out / name).exists() for name in (RawFolder.DESCRIPTION, *_FOLDERS)):
        raise DatasetError(f"{out}: already holds a dataset that was not made by `moe convert`. Choose another name.")


def _claim(source: Path, source_format: str, own: Written) -> None:
    """Write down whose folder this is before anything else is in it."""
    if not (own.folder / REPORT).is_file():
        claim = ConversionReport(
            source=str(source.resolve()), source_format=source_format, folder=str(own.folder), rows=(), seconds=0
        )
        own.write_text(REPORT, claim.as_text())


def _remove_vanished(own: Written, kept: set[str]) -> None:
    """Delete what earlier runs made and this one did not, such as cases that the source no longer has."""
    for folder in _FOLDERS:
        for name in own.names_in(folder):
            if name not in kept:
                own.remove(name)


def _final_labels(described: SourceDataset, values: list[int]) -> dict[str, int]:
    if described.labels is None:
        return {"background": 0} | {f"class_{value}": value for value in values if value > 0}
    unseen = {name for name in described.optional if described.labels.get(name) not in values}
    return {name: value for name, value in described.labels.items() if name not in unseen}


def _describe(described: SourceDataset, labels: dict[str, int], done: list[SourceCase]) -> DatasetJson:
    patients = {case.case_id: case.patient for case in done if case.patient is not None}
    return DatasetJson.model_validate(
        {
            **described.extra,
            **({"patients": patients} if patients else {}),
            "channel_names": {str(number): name for number, name in enumerate(described.channel_names)},
            "labels": labels,
            **described.regions,
            "numTraining": sum(case.part == "training" for case in done),
            "file_ending": FILE_ENDING,
        }
    )
