from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from moe_pipeline.errors import GeometryError, ImageError
from moe_pipeline.imaging.checks.inspection import (
    finding,
    inspect_grid,
    inspect_image,
    inspect_label,
    of_error,
    stored_as_floats,
)
from moe_pipeline.imaging.geometry import Geometry
from moe_pipeline.imaging.volume import Volume
from moe_pipeline.records.check import Finding, Kind

GRID = Geometry((4, 3, 2), (1.0, 2.0, 3.0))
PATH = Path("folder/a.nii.gz")


def volume(values: dict[tuple[int, int, int], float], dtype: str = "uint8", grid: Geometry = GRID) -> Volume:
    array = np.zeros(grid.shape, dtype)
    for place, value in values.items():
        array[place] = value
    return Volume(array, grid)


def only(findings: list[Finding]) -> tuple[str, str, str | None, str]:
    (one,) = findings
    return one.kind, one.severity, one.fix, one.message


@pytest.mark.parametrize("kind", Kind)
def test_every_kind_has_its_advice(kind: Kind) -> None:
    made = finding(kind, "a", "this")
    assert made.expected
    assert made.repair.endswith(("?", "."))


def test_a_grid_that_differs_is_named_by_what_differs() -> None:
    assert inspect_grid("a", "a.nii.gz", GRID, GRID, "image and label") == []
    moved = replace(GRID, shape=(4, 3, 5), spacing_mm=(1.0, 2.0, 4.0), origin_mm=(9, 0, 0))
    kind, severity, fix, message = only(inspect_grid("a", "a.nii.gz", moved, GRID, "image and label"))
    assert (kind, severity, fix) == ("geometry", "error", "resample-labels")
    assert message == (
        "a.nii.gz: image and label lie on different grids: shape 4x3x2 against 4x3x5; "
        "spacing 1x2x3 against 1x2x4; origin 0, 0, 0 against 9, 0, 0"
    )
    near = replace(GRID, origin_mm=(0.05, 0, 0))
    assert only(inspect_grid("a", "", near, GRID, "image and label"))[2] == "snap"
    assert only(inspect_grid("a", "", moved, GRID, "channel 0 and channel 1"))[2] is None


def test_images_need_finite_numbers_and_more_than_one_slice() -> None:
    assert inspect_image("a", PATH, volume({(0, 0, 0): 1}, "float32")) == []
    kind, severity, _, message = only(inspect_image("a", PATH, volume({(0, 0, 0): np.nan}, "float32")))
    assert (kind, severity) == ("not_finite", "error")
    assert message.startswith("a.nii.gz: 1 voxels are NaN or infinite")
    flat = volume({(0, 0, 0): 1}, grid=Geometry((4, 3, 1), (1, 1, 1)))
    assert only(inspect_image("a", PATH, flat))[:2] == ("dimensions", "warning")


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_an_image_without_contrast_is_an_error(dtype: str) -> None:
    kind, severity, _, message = only(inspect_image("a", PATH, volume({}, dtype)))
    assert (kind, severity) == ("no_contrast", "error")
    assert message == "a.nii.gz: every voxel of the image is 0"


@pytest.mark.parametrize("metres", [0.001, 1000.0])
def test_a_size_that_no_patient_has_is_an_error(metres: float) -> None:
    grid = Geometry((4, 3, 2), (metres, metres, metres))
    kind, severity, _, message = only(inspect_image("a", PATH, volume({(0, 0, 0): 1}, grid=grid)))
    assert (kind, severity) == ("spacing", "error")
    assert "mm in size: is its spacing in other units than mm?" in message


def test_a_label_of_known_values_is_given_back_as_integers() -> None:
    inspected = inspect_label("a", PATH, volume({(1, 1, 1): 2}, "float64"), {1, 2})
    assert inspected.findings == []
    assert inspected.counts == {0: 23, 2: 1}
    assert inspected.labels is not None
    assert inspected.labels.array.dtype == np.uint8
    assert inspected.labels.array[1, 1, 1] == 2


@pytest.mark.parametrize(
    ("values", "kind", "severity", "fix", "text"),
    [
        ({(0, 0, 0): 7}, "unknown_labels", "error", None, "label values 7 are not in dataset.json (0, 1, 2)"),
        ({(0, 0, 0): -1}, "unknown_labels", "error", None, "labels must lie in 0..65535, found -1..0"),
        ({}, "empty_label", "warning", None, "no voxel of any class"),
        ({(0, 0, 0): 0.9999}, "float_labels", "error", "round", "whole numbers but for rounding"),
        ({(0, 0, 0): 0.4, (1, 0, 0): 1.06}, "soft_labels", "error", None, "found 0.4 among others (range 0..1.06)"),
        ({(0, 0, 0): np.inf}, "not_finite", "error", None, "found NaN or infinity"),
    ],
)
def test_what_is_wrong_with_a_label(
    values: dict[tuple[int, int, int], float], kind: str, severity: str, fix: str | None, text: str
) -> None:
    found = only(inspect_label("a", PATH, volume(values, "float64"), {1, 2}).findings)
    assert found[:3] == (kind, severity, fix)
    assert text in found[3]


def test_without_known_classes_any_value_is_a_class() -> None:
    assert inspect_label("a", PATH, volume({(0, 0, 0): 7}), ()).findings == []
    assert only(inspect_label("a", PATH, volume({}), ()).findings)[0] == "empty_label"


def test_floats_that_hold_whole_numbers_are_noted() -> None:
    assert stored_as_floats("a", PATH, volume({})) == []
    assert only(stored_as_floats("a", PATH, volume({}, "float32")))[:3] == ("float_labels", "note", "round")


def test_errors_become_findings_of_their_kind() -> None:
    error = ImageError(f"{PATH}: truncated: 3 of 4 bytes are there.", kind="truncated")
    assert of_error("a", PATH, error).kind == "truncated"
    assert of_error("a", PATH, error).message == "a.nii.gz: truncated: 3 of 4 bytes are there."
    assert of_error("a", PATH, ImageError("damaged")).kind == "unreadable"
    assert of_error("a", PATH, GeometryError("no grid")).kind == "geometry"
    assert of_error("a", PATH, PermissionError("no")).kind == "unreadable"
