"""Who is held back when."""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from moe_pipeline.errors import DatasetError
from moe_pipeline.journal.written import set_aside
from moe_pipeline.records.planning import Fingerprint, Fold, Splits


def make_splits(
    dataset: str,
    case_ids: Sequence[str],
    seed: int,
    n_folds: int = 5,
    patients: dict[str, str] | None = None,
    patient_pattern: str | None = None,
) -> Splits:
    """Folds in which all cases of a patient are on the same side.

    Args:
        dataset: name of the dataset.
        case_ids: cases to deal out; their order does not matter.
        seed: same seed, same folds.
        n_folds: at most; there are never more than patients.
        patients: case id to patient, for some or all cases.
        patient_pattern: regular expression whose first group, or whole match, in the case id names the patient.

    Raises:
        DatasetError: if there is no case, or the pattern is no regular expression or fits no case.
    """
    if not case_ids:
        raise DatasetError(f"{dataset}: no case to split; each needs at least one voxel of a class")
    groups, grouped_by = _group(dataset, sorted(case_ids), patients, patient_pattern)
    names = sorted(groups)
    np.random.default_rng(seed).shuffle(names)
    held_back: list[list[str]] = [[] for _ in range(min(n_folds, len(names)))]
    for name in sorted(names, key=lambda name: -len(groups[name])):  # large patients first, else the folds get uneven
        min(held_back, key=len).extend(groups[name])
    if len(held_back) == 1:
        folds: tuple[Fold, ...] = (Fold(train=tuple(sorted(case_ids)), validation=()),)
    else:
        folds = tuple(
            Fold(train=tuple(sorted(set(case_ids) - set(fold))), validation=tuple(sorted(fold))) for fold in held_back
        )
    return Splits(dataset=dataset, seed=seed, grouped_by=grouped_by, patient_pattern=patient_pattern, folds=folds)


def grown_splits(there: Splits, made: Splits, patients: dict[str, str] | None = None) -> Splits:
    """The folds that are there with cases that were added: whoever was held back or learnt from in one stays so.

    An added case goes where its patient is, else into the smallest fold or one more. Where somebody edited the folds so
    that not every case is held back once, it is learnt from in all of them.

    Args:
        there: folds of some of the cases.
        made: what `make_splits` says of all of them now.
        patients: of dataset.json.
    """
    pattern = made.patient_pattern or there.patient_pattern
    groups, grouped_by = _group(made.dataset, sorted(_cases(made)), patients, pattern)
    held_back = [list(fold.validation) for fold in there.folds]
    dealt_once = sorted(case_id for fold in held_back for case_id in fold) == sorted(_cases(there))
    new = sorted(name for name, cases in groups.items() if not _cases(there) & set(cases))
    if dealt_once:
        held_back += [[] for _ in range(len(made.folds) - len(held_back))]
        np.random.default_rng(made.seed).shuffle(new)
        for name in sorted(new, key=lambda name: -len(groups[name])):
            min(held_back, key=len).extend(groups[name])
    for fold in held_back:
        for cases in groups.values():
            if set(cases) & set(fold):
                fold += [case_id for case_id in cases if case_id not in _cases(there) and case_id not in fold]
    learnt_from = [set(fold.train) | (_cases(made) - _cases(there)) for fold in there.folds]
    learnt_from += [_cases(made)] * (len(held_back) - len(learnt_from))
    folds = tuple(
        Fold(train=tuple(sorted(train - set(held))), validation=tuple(sorted(held)))
        for train, held in zip(learnt_from, held_back, strict=True)
    )
    return there.model_copy(update={"grouped_by": grouped_by, "patient_pattern": pattern, "folds": folds})


def classes_not_learnt(splits: Splits, fold: int, fingerprint: Fingerprint, classes: dict[int, str]) -> list[str]:
    """Names of the classes that only the held-back cases of a fold have: its expert never sees them.

    Args:
        splits: all folds.
        fold: number of the one in question.
        fingerprint: which case has which classes.
        classes: to look at, by id.
    """
    there = {case.case_id: set(case.classes) for case in fingerprint.cases}
    train, held_back = (
        set().union(*(there.get(case_id, set()) for case_id in cases))
        for cases in (splits.folds[fold].train, splits.folds[fold].validation)
    )
    return [name for value, name in sorted(classes.items()) if value in held_back - train]


def not_learnt_warning(dataset: str, fold: int, names: Sequence[str]) -> str:
    """What to tell the user about such classes."""
    return (
        f"{dataset}, fold {fold}: only held-back cases have the class {', '.join(names)}, no training case does, "
        "so the expert of this fold cannot learn it; take another fold, add cases, or edit splits.json"
    )


def keep_splits(
    path: Path, made: Splits, patients: dict[str, str] | None = None, *, new_pattern: bool = False
) -> Splits:
    """The folds that are there, if they still answer the question; perhaps somebody edited them.

    They are kept while dataset and seed are the same, no case is gone and no patient of dataset.json is on both sides;
    cases that were added join them. Otherwise they are set aside as splits.previous.json, and the log says why.

    Args:
        path: of splits.json.
        made: what `make_splits` says now.
        patients: of dataset.json.
        new_pattern: whether a pattern was given this time: then the patients must have been told apart alike.

    Raises:
        RecordError: if the folds that are there are invalid.
    """
    if not path.is_file():
        return made
    there = Splits.load(path)
    if there == made:
        return made
    added = _cases(made) - _cases(there)
    reasons = []
    if there.dataset != made.dataset or _cases(there) - _cases(made):
        reasons.append("the cases are others")
    if added and not any(fold.validation for fold in there.folds):
        reasons.append("no case was held back so far")
    if there.seed != made.seed:
        reasons.append(f"the seed is {made.seed}, it was {there.seed}")
    if new_pattern and _grouping(there, added) != _grouping(made, added):
        reasons.append("patients are told apart anew")
    elif _splits_a_patient(there, patients or {}):
        reasons.append("patients of dataset.json are on both sides")
    if not reasons:
        return grown_splits(there, made, patients) if added else there
    set_aside(path, f"{'; '.join(reasons)} (it was grouped by {there.grouped_by}, now by {made.grouped_by})")
    return made


def _grouping(splits: Splits, added: set[str]) -> str | None:
    """How patients are told apart; the words count cases, so they cannot be compared where some were added."""
    return splits.patient_pattern if added else splits.grouped_by


def _cases(splits: Splits) -> set[str]:
    return {case_id for fold in splits.folds for case_id in (*fold.train, *fold.validation)}


def _splits_a_patient(splits: Splits, patients: dict[str, str]) -> bool:
    for fold in splits.folds:
        train, validation = ({patients.get(case_id) for case_id in side} for side in (fold.train, fold.validation))
        if (train & validation) - {None}:
            return True
    return False


def _group(
    dataset: str, case_ids: list[str], patients: dict[str, str] | None, pattern: str | None
) -> tuple[dict[str, list[str]], str]:
    groups: dict[str, list[str]] = {}
    if patients is None and pattern is None:
        return {case_id: [case_id] for case_id in case_ids}, "every case is a patient of its own"
    matched = 0
    for case_id in case_ids:
        patient = (patients or {}).get(case_id)
        if patient is None and pattern is not None:
            patient = _match(dataset, pattern, case_id)
        matched += patient is not None
        groups.setdefault(f"case {case_id}" if patient is None else f"patient {patient}", []).append(case_id)
    if matched == 0:
        raise DatasetError(
            f"{dataset}: nothing says which patient a case belongs to: {pattern or 'patients in dataset.json'} "
            f"fits none of {', '.join(case_ids[:3])}, ..."
        )
    sources = ["patients in dataset.json"] * bool(patients) + [f"the pattern {pattern}"] * (pattern is not None)
    return groups, f"{' and '.join(sources)}: {len(groups)} patients, {matched} of {len(case_ids)} cases named"


def _match(dataset: str, pattern: str, case_id: str) -> str | None:
    try:
        found = re.search(pattern, case_id)
    except re.error as error:
        raise DatasetError(f"{dataset}: {pattern!r} is no regular expression: {error}") from error
    if found is None:
        return None
    return found[1] if found.re.groups else found[0]
