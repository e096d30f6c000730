"""Who is held back when."""

import re
from collections.abc import Sequence

import numpy as np

from moe_pipeline.errors import DatasetError
from moe_pipeline.records.planning import Fold, Splits


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
    return Splits(dataset=dataset, seed=seed, grouped_by=grouped_by, folds=folds)


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
    source = "patients in dataset.json" if patients else f"the pattern {pattern}"
    return groups, f"{source}: {len(groups)} patients, {matched} of {len(case_ids)} cases named"


def _match(dataset: str, pattern: str, case_id: str) -> str | None:
    try:
        found = re.search(pattern, case_id)
    except re.error as error:
        raise DatasetError(f"{dataset}: {pattern!r} is no regular expression: {error}") from error
    if found is None:
        return None
    return found[1] if found.re.groups else found[0]
