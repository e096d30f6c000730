"""The stage: check, fingerprint, plan and split a dataset, and save all of it."""

import logging
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Condition

import psutil

from moe_pipeline.errors import PipelineError
from moe_pipeline.imaging.files import read_geometry
from moe_pipeline.planning.dataset import Case, RawDataset, fault_lines, open_dataset, raise_faults
from moe_pipeline.planning.estimates import estimate
from moe_pipeline.planning.explain import explain
from moe_pipeline.planning.fingerprint import fingerprint_case
from moe_pipeline.planning.journal import open_journal, read_journal
from moe_pipeline.planning.machine import this_machine
from moe_pipeline.planning.planner import make_plan
from moe_pipeline.planning.preset import FoundationPreset, load_planning_preset
from moe_pipeline.planning.splits import keep_splits, make_splits
from moe_pipeline.planning.summary import summarise
from moe_pipeline.planning.validation import check_plan
from moe_pipeline.progress import Progress, silent, track
from moe_pipeline.records.planning import CaseFingerprint, Estimates, Fingerprint, Plan, Splits

_log = logging.getLogger(__name__)

_MAX_THREADS = 4
_MEMORY_SHARE = 0.5  # of what is free, for cases that are read at the same time
_SMALL_FILE_BYTES = 4_000_000  # not worth opening twice
_CASE_BYTES_PER_VOXEL = 12  # compressed and plain file, label, and what the statistics copy


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
        plan, costs = self.plan, self.plan.estimates
        warnings = [f"  {fault.severity}: {fault.case_id}: {fault.message}" for fault in self.fingerprint.faults]
        return "\n".join(
            [
                f"{plan.dataset}: {len(self.fingerprint.cases)} cases, {len(plan.classes)} classes, "
                f"{len(self.splits.folds)} folds; foundation {plan.foundation}",
                f"  view {plan.reasons.get('view', f'{plan.view.spacing_mm:g} mm')}",
                f"  about {costs.disk_mb:.0f} MB of disk, {costs.memory_mb:.0f} MB of memory, "
                f"{costs.minutes:.0f} minutes to encode and train",
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
            that are there are kept, with their edits, while cases, seed and patients are the same.

    Raises:
        DatasetError: lists all faults of all cases, if there are errors and they are not to be left out.
        RecordError: if dataset.json or an edited plan.json or splits.json breaks its schema.
        CheckpointError: if there is no such foundation.
    """
    preset = load_planning_preset(foundation, weights_root)
    dataset = open_dataset(folder)
    if not leave_out_faulty:
        raise_faults(folder, fault_lines(dataset.faults))  # before the slow part
    cases = fingerprint_cases(dataset, out / "cases.jsonl", progress, reuse=reuse)
    errors = [fault for case in cases for fault in case.faults if fault.severity == "error"]
    if not leave_out_faulty:
        raise_faults(folder, fault_lines(errors))
    fingerprint = summarise(dataset, cases)
    splits = make_splits(
        dataset.name,
        [case.case_id for case in fingerprint.cases if case.classes],
        seed,
        preset.n_folds,
        dataset.json.patients,
        patient_pattern,
    )
    splits = keep_splits(out / "splits.json", splits, dataset.json.patients, new_pattern=patient_pattern is not None)
    proposed = make_plan(fingerprint, preset, machine := this_machine(), seed)
    plan = _kept_plan(out, fingerprint, preset, seed) if reuse else None
    plan = _costed(plan, estimate(plan, fingerprint, preset, machine)) if plan else proposed
    fingerprint.save(out / "fingerprint.json")
    splits.save(out / "splits.json")
    plan.save(out / "plan.json")
    return PlannedFiles(plan, fingerprint, splits, proposed, preset)


def fingerprint_cases(
    dataset: RawDataset, journal_path: Path, progress: Progress = silent, *, reuse: bool = True
) -> list[CaseFingerprint]:
    """Fingerprints of all training cases in order; those that the journal knows and that still hold are not remade."""
    if not reuse:
        journal_path.unlink(missing_ok=True)
    known = read_journal(journal_path, dataset)
    missing = [case for case in dataset.cases if case.case_id not in known]
    budget = _Budget(int(psutil.virtual_memory().available * _MEMORY_SHARE))
    threads = min(_MAX_THREADS, os.cpu_count() or 1)
    with open_journal(journal_path) as journal, ThreadPoolExecutor(threads) as pool:
        work = [pool.submit(_fingerprint_within, budget, case, dataset) for case in missing]
        try:
            for done in track(as_completed(work), f"checking {dataset.name}", progress, len(missing)):
                fingerprint = done.result()
                known[fingerprint.case_id] = fingerprint
                journal.add(fingerprint)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
    return [known[case.case_id] for case in dataset.cases]


def _fingerprint_within(budget: "_Budget", case: Case, dataset: RawDataset) -> CaseFingerprint:
    with budget.reserved(_case_bytes(case)):
        return fingerprint_case(case, dataset)


def _case_bytes(case: Case) -> int:
    if case.images[0].stat().st_size < _SMALL_FILE_BYTES:
        return 0
    try:
        x, y, z = read_geometry(case.images[0]).shape
    except PipelineError:
        return 0  # it will be reported where it is read in full
    return x * y * z * _CASE_BYTES_PER_VOXEL


class _Budget:
    """Memory that several threads share. A case that is larger than all of it still runs, alone."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._used = 0
        self._changed = Condition()

    @contextmanager
    def reserved(self, amount: int) -> Iterator[None]:
        with self._changed:
            self._changed.wait_for(lambda: self._used == 0 or self._used + amount <= self._total)
            self._used += amount
        try:
            yield
        finally:
            with self._changed:
                self._used -= amount
                self._changed.notify_all()


def _costed(plan: Plan, costs: Estimates) -> Plan:
    return plan.model_copy(update={"estimates": costs})


def _kept_plan(out: Path, fingerprint: Fingerprint, preset: FoundationPreset, seed: int) -> Plan | None:
    """The plan that is there, if it answers the same question; perhaps somebody edited it."""
    path = out / "plan.json"
    if not path.is_file():
        return None
    plan = Plan.load(path)
    if (plan.fingerprint_sha256, plan.foundation, plan.seed) == (fingerprint.sha256(), preset.name, seed):
        check_plan(plan, fingerprint, preset, path)
        return plan
    path.replace(out / "plan.previous.json")
    _log.warning("%s was made from other data or settings; it is replaced and kept as plan.previous.json", path)
    return None
