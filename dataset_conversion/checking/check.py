"""`moe convert SOURCE --check`: everything that is wrong with a source, case by case, before anything is converted."""

import re
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path

from dataset_conversion.checking.case_check import check_case
from dataset_conversion.checking.findings_text import findings_as_text
from dataset_conversion.convert import account, describe, one_patient, source_bytes, told_missing, with_closed
from dataset_conversion.label_map import LabelMap
from dataset_conversion.layout import Options, SourceCase, SourceDataset
from dataset_conversion.sources import loose
from dataset_conversion.state import description_sha256
from moe_pipeline.datasets.accounting import walk
from moe_pipeline.errors import DatasetError, PipelineError
from moe_pipeline.files import is_file
from moe_pipeline.imaging.checks.inspection import finding
from moe_pipeline.imaging.checks.outliers import duplicates, outliers, patients_on_both_sides
from moe_pipeline.imaging.io.files import case_id_of, has_image_suffix
from moe_pipeline.journal.journal import Journal
from moe_pipeline.journal.written import Written
from moe_pipeline.parallel import run_each
from moe_pipeline.paths import CheckFolder
from moe_pipeline.progress import Progress, silent
from moe_pipeline.records.base import read_json
from moe_pipeline.records.check import SEVERITIES, CheckedCase, CheckReport, Finding, Kind
from moe_pipeline.records.planning import Splits

REPORT, TEXT, JOURNAL = CheckFolder.REPORT, CheckFolder.TEXT, CheckFolder.JOURNAL
_BIDS_SUBJECT = r"sub-[A-Za-z0-9]+"
_NO_OPTIONS = Options()


def check(
    source: Path,
    out: Path,
    source_format: str | None = None,
    progress: Progress = silent,
    *,
    options: Options = _NO_OPTIONS,
    label_map: LabelMap | None = None,
    patient_pattern: str | None = None,
    splits: Path | None = None,
) -> CheckReport:
    """Look through every case of a source; nothing is converted, and the source is only read.

    A folder in no known layout is looked through as well: its files are put together by their names. Killed, a check
    goes on with the cases that are left; a second one reads only what has changed.

    Args:
        source: folder of the dataset, raw or nnU-Net's.
        out: folder for check.json, check.txt and the journal.
        source_format: name of a converter; guessed if None.
        progress: told after each case.
        options: what the layout leaves open.
        label_map: classes of the new dataset, if they are not those of the source.
        patient_pattern: regular expression whose first group, or whole match, in a case id names the patient.
        splits: splits.json of `moe plan`, if there is one.

    Returns:
        All that was found, also saved as check.json and, to read, as check.txt.

    Raises:
        DatasetError: if the folder is missing or holds no image, an option or the label map does not fit the source, or
            the pattern is no regular expression.
    """
    began = time.monotonic()
    name, described, findings = _described(source, source_format, options, label_map)
    entries = walk(source)
    described = with_closed(source, described, entries)
    cases = [*described.cases, *_faulty_cases(source, described)]
    checked = _check_all(cases, described, source, out, progress)
    findings += [finding(_kind_of(why), case_id, why) for case_id, why in described.faults.items()]
    findings += [found for case in checked for found in case.findings]
    findings += _volumes_of_one_series(described)
    findings += [finding(Kind.MISSING_FILE, "", note, severity="warning") for note in told_missing(described)]
    findings += [finding(Kind.ONE_PATIENT, "", note, severity="warning") for note in one_patient(described.cases)]
    findings += _compare(checked, cases, described, patient_pattern, _folds(source, splits))
    failed = {one.case_id: one.message for one in reversed(findings) if one.severity == "error" and one.case_id}
    report = CheckReport(
        source=str(source.resolve()),
        source_format=name,
        cases=len({case.case_id for case in cases} | set(described.faults)),
        findings=tuple(sorted(findings, key=lambda one: (SEVERITIES.index(one.severity), one.case_id, one.kind))),
        accounting=account(source, described, entries, failed),
        seconds=round(time.monotonic() - began, 3),
    )
    own = Written(out / JOURNAL)
    own.write_over(REPORT, report.as_text())
    own.write_over(TEXT, findings_as_text(report))
    return report


def _described(
    source: Path, source_format: str | None, options: Options, label_map: LabelMap | None
) -> tuple[str, SourceDataset, list[Finding]]:
    """What the source holds; as loose files if it follows no known layout, or not well enough."""
    try:
        return (*describe(source, source_format, options, label_map), [])
    except PipelineError as error:
        if source_format is not None or options != _NO_OPTIONS or label_map is not None or not source.is_dir():
            raise
        found = finding(Kind.LAYOUT, "", str(error).removeprefix(f"{source}: "))
        return loose.NAME, loose.describe(source), [found]


def _faulty_cases(source: Path, described: SourceDataset) -> list[SourceCase]:
    """What there is of cases that cannot be tried: their files may have faults of their own."""
    listed = {case.case_id for case in described.cases}
    found: dict[str, list[Path]] = {}
    if set(described.faults) - listed:
        for path in sorted(source.rglob("*")):
            name = case_id_of(path)
            case_id = next((one for one in (name, re.sub(r"_\d{4}$", "", name)) if one in described.faults), None)
            if case_id is not None and case_id not in listed and has_image_suffix(path) and is_file(path):
                found.setdefault(case_id, []).append(path)
    return [_case_of(case_id, paths) for case_id, paths in found.items()]


def _case_of(case_id: str, paths: list[Path]) -> SourceCase:
    labels = tuple(path for path in paths if loose.is_label(path))
    return SourceCase(case_id, tuple(path for path in paths if path not in labels), labels[:1])


def _check_all(
    cases: list[SourceCase], described: SourceDataset, source: Path, out: Path, progress: Progress
) -> list[CheckedCase]:
    journal = Journal(out / JOURNAL, CheckedCase, source, description_sha256(described))
    work = partial(check_case, dataset=described, journal=journal)
    return list(run_each(work, cases, source_bytes, f"checking {source.name}", progress))


def _volumes_of_one_series(described: SourceDataset) -> list[Finding]:
    """Cases that are made of the same files: a user should know, and see that each has the label that it needs."""
    sharing: dict[tuple[Path, ...], list[str]] = defaultdict(list)
    for case in described.cases:
        if case.load is not None and case.images:
            sharing[case.images].append(case.case_id)
    return [
        finding(
            Kind.SEVERAL_VOLUMES,
            ids[0],
            f"{len(ids)} volumes in one series of {len(files)} files; each becomes a case of its own: {', '.join(ids)}",
            files[0].parent.name,
            severity="warning",
        )
        for files, ids in sharing.items()
        if len(ids) > 1
    ]


def _compare(
    checked: Iterable[CheckedCase],
    cases: list[SourceCase],
    described: SourceDataset,
    pattern: str | None,
    folds: Mapping[str, tuple[list[str], list[str]]],
) -> list[Finding]:
    """What is wrong with the cases side by side."""
    numbers = {case.case_id: case.numbers for case in checked if case.numbers is not None}
    tests = {case.case_id for case in cases if case.part == "test"}
    training = {case.case_id for case in cases} - tests
    patients = _patients(cases, described, pattern)
    findings = [*duplicates(numbers, tests), *outliers(numbers, described.channel_names)]
    findings += patients_on_both_sides(patients, training, tests, "training and test cases")
    for name, (one, other) in folds.items():
        findings += patients_on_both_sides(patients, one, other, name)
    labelled = [case for case in numbers.values() if case.label_sha256]
    if labelled and not any(case.volumes_ml for case in labelled):
        found = f"none of {len(labelled)} labels has a voxel of any class"
        findings.append(finding(Kind.EMPTY_LABEL, "", found))
    return findings


def _patients(cases: list[SourceCase], described: SourceDataset, pattern: str | None) -> dict[str, str]:
    """Case id to patient: as the source says, as the pattern says, or as BIDS names them."""
    known = {str(case_id): str(who) for case_id, who in (described.extra.get("patients") or {}).items()}
    known |= {case.case_id: case.patient for case in cases if case.patient is not None}
    try:
        search = re.compile(pattern or _BIDS_SUBJECT).search
    except re.error as error:
        raise DatasetError(f"--patients {pattern!r} is no regular expression: {error}") from error
    for case in cases:
        if case.case_id not in known and (match := search(case.case_id)):
            known[case.case_id] = match[1] if match.re.groups else match[0]
    return known


def _folds(source: Path, splits: Path | None) -> dict[str, tuple[list[str], list[str]]]:
    """Training and validation cases of every fold there is, ours or nnU-Net's."""
    folds: dict[str, tuple[list[str], list[str]]] = {}
    if splits is not None and splits.is_file():
        for number, fold in enumerate(Splits.load(splits).folds):
            folds[f"fold {number} of {splits.name}"] = (list(fold.train), list(fold.validation))
    theirs = source / "splits_final.json"
    if theirs.is_file():
        content = read_json(theirs, "a list of folds")
        try:
            found = {f"fold {n} of {theirs.name}": (fold["train"], fold["val"]) for n, fold in enumerate(content)}
        except (TypeError, KeyError) as error:
            raise DatasetError(f"{theirs}: expected a list of folds with `train` and `val`, found {error}") from error
        folds |= found
    return folds


def _kind_of(fault: str) -> Kind:
    if "without image" in fault or "without label" in fault or "not listed" in fault:
        return Kind.ORPHAN_FILE
    return Kind.DUPLICATE if "have this id" in fault else Kind.MISSING_FILE
