from typing import Any

import pytest

from moe_pipeline.errors import DatasetError
from moe_pipeline.planning.splits import grown_splits, make_splits
from moe_pipeline.records.planning import Fold

CASES = [f"pat{patient:02d}_visit{visit}" for patient in range(12) for visit in range(1 + patient % 3)]


def test_every_case_is_held_back_once() -> None:
    splits = make_splits("D", CASES, seed=3)
    held = [case for fold in splits.folds for case in fold.validation]
    assert sorted(held) == sorted(CASES)
    for fold in splits.folds:
        assert sorted((*fold.train, *fold.validation)) == sorted(CASES)
    assert splits.grouped_by == "every case is a patient of its own"


def test_the_seed_alone_decides() -> None:
    assert make_splits("D", CASES, seed=3) == make_splits("D", CASES[::-1], seed=3)
    assert make_splits("D", CASES, seed=3) != make_splits("D", CASES, seed=4)


@pytest.mark.parametrize(
    "by",
    [
        {"patient_pattern": r"^(pat\d+)_"},
        {"patient_pattern": r"pat\d+"},
        {"patients": {case: case.partition("_")[0] for case in CASES}},
    ],
)
def test_a_patient_is_never_on_both_sides(by: dict[str, Any]) -> None:
    splits = make_splits("D", CASES, seed=0, **by)
    assert len(splits.folds) == 5
    for fold in splits.folds:
        train, validation = ({case.partition("_")[0] for case in side} for side in (fold.train, fold.validation))
        assert not train & validation
    sizes = [len(fold.validation) for fold in splits.folds]
    assert max(sizes) - min(sizes) <= 2
    assert "12 patients, 24 of 24 cases named" in splits.grouped_by


def test_cases_that_nothing_names_are_patients_of_their_own() -> None:
    splits = make_splits("D", CASES, seed=0, patients={CASES[1]: "x", CASES[5]: "x"})
    (fold,) = (fold for fold in splits.folds if CASES[1] in fold.validation)
    assert CASES[5] in fold.validation
    assert sorted(case for fold in splits.folds for case in fold.validation) == sorted(CASES)


def test_there_are_never_more_folds_than_patients() -> None:
    assert len(make_splits("D", ["a", "b", "c"], seed=0).folds) == 3
    (fold,) = make_splits("D", ["a"], seed=0).folds
    assert (fold.train, fold.validation) == (("a",), ())


def test_nonsense_is_named() -> None:
    with pytest.raises(DatasetError, match="no case to split"):
        make_splits("D", [], seed=0)
    with pytest.raises(DatasetError, match="'\\(' is no regular expression"):
        make_splits("D", CASES, seed=0, patient_pattern="(")
    with pytest.raises(DatasetError, match="nothing says which patient a case belongs to: xyz"):
        make_splits("D", CASES, seed=0, patient_pattern="xyz")


@pytest.mark.parametrize("n_before", [2, 3, 9, 23])
def test_cases_that_are_added_move_nobody_to_the_other_side(n_before: int) -> None:
    pattern = r"^(pat\d+)_"
    before = make_splits("D", CASES[:n_before], seed=1, patient_pattern=pattern)
    grown = grown_splits(before, made := make_splits("D", CASES, seed=1, patient_pattern=pattern))
    assert len(grown.folds) == len(made.folds) == 5
    assert sorted(case for fold in grown.folds for case in fold.validation) == sorted(CASES)
    for old, new in zip(before.folds, grown.folds, strict=False):
        assert set(old.train) <= set(new.train)
        assert set(old.validation) <= set(new.validation)
    for fold in grown.folds:
        assert sorted((*fold.train, *fold.validation)) == sorted(CASES)
        train, validation = ({case.partition("_")[0] for case in side} for side in (fold.train, fold.validation))
        assert not train & validation


def test_cases_that_are_added_to_edited_folds_are_learnt_from() -> None:
    made = make_splits("D", ["a", "b", "c", "d"], seed=0)
    edited = made.model_copy(update={"folds": (Fold(train=("a",), validation=("b",)),)})
    assert grown_splits(edited, made).folds == (Fold(train=("a", "c", "d"), validation=("b",)),)
    one_patient = {"b": "x", "c": "x"}
    assert grown_splits(edited, made, one_patient).folds == (Fold(train=("a", "d"), validation=("b", "c")),)
