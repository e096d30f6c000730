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


def test_one_number_stands_for_all_axes_and_is_written_again_as_one() -> None:
    plan = Plan.model_validate(PLAN)
    assert (plan.view.spacing_mm, plan.view.size_voxels) == ((1.5,) * 3, (64,) * 3)
    assert plan.model_dump(mode="json")["view"] == {
        **PLAN["view"],
        "orientation": "RAS",
        "normalisation": "zscore_positive",
    }
    assert (
        plan.sha256() == "eba6a02b18da4ad3c66b05341e4f4ec710672e394c9d6de9d1aa82066eed5cd5"
    )  # as before views had three numbers: experts and caches name it
    flat = Plan.model_validate({**PLAN, "view": {"spacing_mm": [1, 1.5, 3], "size_voxels": [64, 64, 16]}})
    assert Plan.model_validate(flat.model_dump(mode="json")) == flat
    assert flat.view.extent_mm == (64.0, 96.0, 48.0)
    assert flat.view.short_name == "1x1.5x3mm_64x64x16"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"classes": {}}, "at least one label value above 0"),
        ({"class_weights": {1: 1.0}}, r"one weight for each of the classes \[1, 3\], found \[1\]"),
        ({"class_weights": {1: 1.0, 3: 0.0}}, "must be positive"),
        ({"mirror_axes": (0, 3)}, r"different ones of 0, 1, 2, found \[0, 3\]"),
        ({"crops_per_case": 0}, "greater than or equal to 1"),
        ({"workers": 1}, "Extra inputs are not permitted"),  # nothing reads it
        ({"view": {"spacing_mm": "fited", "size_voxels": 64}}, "one of fitted, native, found 'fited'"),
        ({"view": {"spacing_mm": [1, 1], "size_voxels": 64}}, r"three of them, .* found \[1, 1\]"),
        ({"view": {"spacing_mm": 0, "size_voxels": 64}}, "a positive number of mm"),
        ({"view": {"spacing_mm": 1, "size_voxels": 64.5}}, "a positive number of voxels, or three of them, found 64.5"),
        ({"crop_per_case": 1}, "Extra inputs are not permitted"),
    ],
)
def test_contradictions_of_an_edited_plan_are_rejected(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Plan.model_validate({**PLAN, **change})


def test_splits_refuse_a_case_on_both_sides() -> None:
    with pytest.raises(ValidationError, match="fold 0: b in both train and validation"):
        Splits(dataset="D", seed=0, grouped_by="case", folds=(Fold(train=("a", "b"), validation=("b",)),))
