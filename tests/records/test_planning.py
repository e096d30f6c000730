from typing import Any

import pytest
from pydantic import ValidationError

from moe_pipeline.records.planning import Fold, Plan, Splits

PLAN: dict[str, Any] = {
    "dataset": "Dataset001_X",
    "dataset_sha256": "0" * 64,
    "fingerprint_sha256": "1" * 64,
    "foundation": "nano",
    "classes": {1: "a", 3: "b"},
    "view": {"spacing_mm": 1.5, "size_voxels": 64},
    "crops_per_case": 2,
    "class_weights": {1: 1.0, 3: 2.0},
    "copies_per_case": 2,
    "batch_size": 8,
    "epochs": 3,
    "steps_per_epoch": 50,
    "seed": 0,
    "estimates": {"disk_mb": 1, "memory_mb": 1, "minutes": 1},
    "reasons": {},
}


def test_steps_are_epochs_times_steps_per_epoch() -> None:
    assert Plan.model_validate(PLAN).steps == 150


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"classes": {}}, "at least one label value above 0"),
        ({"class_weights": {1: 1.0}}, r"one weight for each of the classes \[1, 3\], found \[1\]"),
        ({"class_weights": {1: 1.0, 3: 0.0}}, "must be positive"),
        ({"mirror_axes": (0, 3)}, r"different ones of 0, 1, 2, found \[0, 3\]"),
        ({"crops_per_case": 0}, "greater than or equal to 1"),
        ({"workers": 1}, "Extra inputs are not permitted"),  # nothing reads it
        ({"crop_per_case": 1}, "Extra inputs are not permitted"),
    ],
)
def test_contradictions_of_an_edited_plan_are_rejected(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Plan.model_validate({**PLAN, **change})


def test_splits_refuse_a_case_on_both_sides() -> None:
    with pytest.raises(ValidationError, match="fold 0: b in both train and validation"):
        Splits(dataset="D", seed=0, grouped_by="case", folds=(Fold(train=("a", "b"), validation=("b",)),))
