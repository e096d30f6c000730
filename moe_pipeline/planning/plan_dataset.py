"""The stage: check, fingerprint, plan and split a dataset, and save all of it."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from moe_pipeline.datasets.accounting import COUNTED, Entry, Handled, account_for, of_left_out, walk
from moe_pipeline.datasets.dataset import Case, RawDataset, fault_lines, open_dataset, raise_faults
from moe_pipeline.imaging.io.memory import case_bytes
from moe_pipeline.journal.crashes import CrashLog
from moe_pipeline.journal.journal import Journal
from moe_pipeline.journal.written import Written, set_aside
from moe_pipeline.parallel import run_each
from moe_pipeline.paths import PlanFolder
from moe_pipeline.planning.added import grown_plan, refuse_changed
from moe_pipeline.planning.explain import explain
from moe_pipeline.planning.fingerprint import case_files, description_sha256, fingerprint_case
from moe_pipeline.planning.machine import estimate, this_machine
from moe_pipeline.planning.plan_files import check_plan, load_fingerprint
from moe_pipeline.planning.planner import make_plan
from moe_pipeline.planning.preset import FoundationPreset, load_planning_preset
from moe_pipeline.planning.splits import classes_not_learnt, keep_splits, make_splits, not_learnt_warning
from moe_pipeline.planning.summary import summarise_cases
from moe_pipeline.progress import Progress, silent
from moe_pipeline.records.cases import Accounting
from moe_pipeline.records.dataset import DatasetJson
from moe_pipeline.records.planning import CaseFingerprint, Estimates, Fault, Fingerprint, Plan, Splits

_NO_VALIDATION = (
    "  warning: no fold holds a case back for validation, as all cases that can be learnt from are one, or "
    "of one patient; if these are several people, say who is who: `patients` in dataset.json, or --patients"
)

FingerprintEach = Callable[
    [Callable[[Case], CaseFingerprint], Sequence[Case], Callable[[Case], int], str, Progress], Iterator[CaseFingerprint]
]
"""Does as `run_each` does: here, or elsewhere."""

fingerprint_here: FingerprintEach = run_each
"""In threads of this process."""


@dataclass(frozen=True, slots=True)
class PlannedFiles:
    """What `plan_dataset` made or found."""

    plan: Plan
    """The choices."""
    fingerprint: Fingerprint
    """What they rest on."""
    splits: Splits
    """The folds."""
    proposed: Plan
    """The choices as they would be made now; differs from the plan where somebody edited it."""
    preset: FoundationPreset
    """The foundation that was planned for."""

    def explain(self, width: int = 120) -> str:
        """Every choice with its value and reason, the classes, and what the data are like, as tables."""
        return explain(self.plan, self.fingerprint, self.preset, self.proposed, width)

    def summary(self) -> str:
        """A few lines for the terminal."""
        plan, costs, view = self.plan, self.plan.estimates, self.plan.view
        told = plan.reasons.get("view", "") if view == self.proposed.view else f"{view.spacing_in_words}, edited"
        warnings = [f"  {fault.severity}: {fault.case_id}: {fault.message}" for fault in self.fingerprint.faults]
        for fold in range(len(self.splits.folds)):
            if names := classes_not_learnt(self.splits, fold, self.fingerprint, plan.classes):
                warnings.append(f"  warning: {not_learnt_warning(plan.dataset, fold, names)}")
        if absent := [found.name for found in self.fingerprint.classes.values() if found.cases == 0]:
            told = "is in dataset.json, but no case has a voxel of it, so it is left out"
            warnings += [f"  warning: the class {name} {told}" for name in absent]
        if n := _n_missing(self.fingerprint):
            told = "training cases that dataset.json counts are not here: copy them, or correct numTraining"
            warnings.append(f"  warning: {n} {told}")
        sums = [f"  {line}" for one in self.fingerprint.accounting for line in one.lines()]
        return "\n".join(
            [
                f"{plan.dataset}: {len(self.fingerprint.cases)} cases, {len(plan.classes)} classes, "
                f"{len(self.splits.folds)} folds; foundation {plan.foundation}",
                f"  view {told}",
                f"  about {costs.disk_mb:.0f} MB of disk, {costs.memory_mb:.0f} MB of memory, "
                f"{costs.minutes:.0f} minutes to encode and train",
                *sums,
                *[_NO_VALIDATION] * (not any(fold.validation for fold in self.splits.folds)),
                *warnings,
            ]
        )


def plan_dataset(
    folder: Path,
    out: Path,
    foundation: str = "nano",
    weights_root: Path | None = None,
    seed: int = 0,
    progress: Progress = silent,
    *,
    reuse: bool = True,
    leave_out_faulty: bool = False,
    patient_pattern: str | None = None,
    grow: tuple[Plan, Fingerprint] | None = None,
    run: FingerprintEach = fingerprint_here,
) -> PlannedFiles:
    """Check every case, then write fingerprint.json, plan.json and splits.json.

    Each file is read once, by several threads: decompression and statistics leave the interpreter free, so that
    starting processes would only cost time. Killed, it continues with the cases that are left.

    Args:
        folder: nnU-Net v2 raw dataset.
        out: folder for the files.
        foundation: preset or imported weights to plan for.
        weights_root: where imported weights are.
        seed: of folds, crops and training.
        progress: told after each case.
        reuse: keep fingerprints of unchanged cases, and a plan (with its edits) that was made from the same inputs.
        leave_out_faulty: go on without the cases that have errors; they stay listed in the fingerprint.
        patient_pattern: regular expression that finds the patient in a case id, for the folds. Without one, folds
            that are there are kept, with their edits, while seed and patients are the same; added cases join them.
        grow: a plan that is kept although cases were added, and the fingerprint that it was made from.
        run: who reads the cases.

    Raises:
        DatasetError: lists all faults of all cases, if there are errors and they are not to be left out.
        RecordError: if dataset.json or an edited plan.json or splits.json breaks its schema.
        CheckpointError: if there is no such foundation.
    """
    preset = load_planning_preset(foundation, weights_root)
    dataset = open_dataset(folder)
    entries = walk(folder)
    if not leave_out_faulty:
        raise_faults(folder, fault_lines(dataset.faults))  # before the slow part
    own = Written(PlanFolder(out).journal)
    cases = fingerprint_cases(dataset, PlanFolder(out).journal, progress, reuse=reuse, run=run)
    errors = [fault for case in cases for fault in case.faults if fault.severity == "error"]
    if not leave_out_faulty:
        raise_faults(folder, fault_lines(errors))
    fingerprint = summarise_cases(dataset, cases)
    fingerprint = fingerprint.model_copy(update={"accounting": _accounting(dataset, fingerprint, entries)})
    if grow is not None:
        refuse_changed(*grow, fingerprint)
    splits = make_splits(
        dataset.name,
        [case.case_id for case in fingerprint.cases if case.classes],
        seed,
        preset.n_folds,
        dataset.json.patients,
        patient_pattern,
    )
    splits = keep_splits(PlanFolder(out).splits, splits, dataset.json.patients, new_pattern=patient_pattern is not None)
    proposed = make_plan(fingerprint, preset, machine := this_machine(), seed)
    if grow is not None:
        plan: Plan | None = grown_plan(*grow, fingerprint, proposed)
    else:
        plan = _kept_plan(out, fingerprint, preset, seed) if reuse else None
    plan = _costed(plan, estimate(plan, fingerprint, preset, machine)) if plan else proposed
    own.write_over(PlanFolder(out).fingerprint.name, fingerprint.as_text())
    own.write_over(PlanFolder(out).splits.name, splits.as_text(), carried_over=True)
    own.write_over(PlanFolder(out).plan.name, plan.as_text(), carried_over=reuse)
    return PlannedFiles(plan, fingerprint, splits, proposed, preset)


def plan_added(folder: Path, out: Path, weights_root: Path | None = None, progress: Progress = silent) -> PlannedFiles:
    """Take cases that were added to a planned dataset into its plan, whose choices stay: view, channel and the rest.

    Old validation cases stay validation cases. Faulty cases are left out if some were when it was planned.

    Args:
        folder: nnU-Net v2 raw dataset.
        out: folder of its plan.
        weights_root: where imported weights are.
        progress: told after each case.

    Raises:
        DatasetError: if a case is gone, a class has another meaning, or as `plan_dataset`.
        RecordError: if it was never planned.
    """
    plan, before = Plan.load(PlanFolder(out).plan), load_fingerprint(out)
    faulty = any(fault.severity == "error" for fault in before.faults)
    return plan_dataset(
        folder,
        out,
        plan.foundation,
        weights_root,
        plan.seed,
        progress,
        leave_out_faulty=faulty,
        grow=(plan, before),
    )


def fingerprint_cases(
    dataset: RawDataset,
    journal_path: Path,
    progress: Progress = silent,
    *,
    reuse: bool = True,
    run: FingerprintEach = fingerprint_here,
) -> list[CaseFingerprint]:
    """Fingerprints of all training cases in order; those that the journal knows and that still hold are not remade."""
    journal = Journal(journal_path, CaseFingerprint, dataset.folder, description_sha256(dataset.json))
    cases = dataset.cases if reuse else ()
    known = {case.case_id: line for case in cases if (line := journal.find(case.case_id, case_files(case)))}
    missing = [case for case in dataset.cases if case.case_id not in known]
    work = partial(
        _fingerprint, dataset=replace(dataset, cases=(), test_cases=(), faults=()), crashes=journal_path.parent
    )
    for fingerprint in run(work, missing, _case_bytes, f"checking {dataset.name}", progress):
        known[fingerprint.case_id] = fingerprint
        journal.add(fingerprint)
    return [known[case.case_id] for case in dataset.cases]


def _fingerprint(case: Case, *, dataset: RawDataset, crashes: Path) -> CaseFingerprint:
    def rescue(message: str) -> CaseFingerprint:
        return not_fingerprinted(case, dataset.json, message)

    return CrashLog(crashes).guarded(case.case_id, lambda: fingerprint_case(case, dataset), rescue)


def not_fingerprinted(case: Case, description: DatasetJson, message: str) -> CaseFingerprint:
    """Of a case that could not be looked at, and why."""
    fault = Fault(case_id=case.case_id, severity="error", message=message)
    sha256 = description_sha256(description)
    return CaseFingerprint(case_id=case.case_id, files=(), description_sha256=sha256, faults=(fault,))


def _accounting(
    dataset: RawDataset, fingerprint: Fingerprint, entries: Iterable[Entry]
) -> tuple[Accounting, Accounting]:
    """Training cases with their files: found = used + left out."""
    files = {case.case_id: case_files(case) for case in dataset.cases}
    errors = {fault.case_id: fault.message for fault in reversed(fingerprint.faults) if fault.severity == "error"}
    used = {case_id: paths for case_id, paths in files.items() if case_id not in errors}
    lost = of_left_out(path for case_id, paths in files.items() if case_id in errors for path in paths)
    tests = {
        entry.path: "of test cases, which are not planned on"
        for entry in entries
        if entry.path.parent.name in ("imagesTs", "labelsTs") and not entry.closed
    }
    here = {*files, *errors, *(case.case_id for case in dataset.test_cases)}
    n_missing = max(dataset.json.numTraining - len(here), 0)
    return account_for(dataset.folder, entries, Handled(used, errors, tests | lost, n_missing))


def _n_missing(fingerprint: Fingerprint) -> int:
    cases = [one for one in fingerprint.accounting if one.of == "cases"]
    return sum(left.count for one in cases for left in one.left_out if left.reason.startswith(COUNTED))


def _case_bytes(case: Case) -> int:
    return case_bytes(case.images[:1])  # channels are read one after the other


def _costed(plan: Plan, costs: Estimates) -> Plan:
    return plan.model_copy(update={"estimates": costs})


def _kept_plan(out: Path, fingerprint: Fingerprint, preset: FoundationPreset, seed: int) -> Plan | None:
    """The plan that is there, if it answers the same question; perhaps somebody edited it."""
    path = PlanFolder(out).plan
    if not path.is_file():
        return None
    plan = Plan.load(path)
    if (plan.fingerprint_sha256, plan.foundation, plan.seed) == (fingerprint.sha256(), preset.name, seed):
        check_plan(plan, fingerprint, preset, path)
        return plan
    set_aside(path, "made from other data or settings")
    return None
