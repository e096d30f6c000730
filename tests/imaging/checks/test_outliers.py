import numpy as np
import pytest

from moe_pipeline.imaging.checks.outliers import duplicates, outliers, patients_on_both_sides
from moe_pipeline.records.check import CaseNumbers, ChannelNumbers


def case(
    image: str = "",
    spacing: float = 1.0,
    spread: float = 100.0,
    volumes: dict[int, float] | None = None,
    label: str = "",
) -> CaseNumbers:
    return CaseNumbers(
        spacing_mm=(spacing, spacing, spacing),
        extent_mm=(100, 100, 100),
        channels=(ChannelNumbers(content_sha256=image, median=50, spread=spread),) if image else (),
        label_sha256=label,
        volumes_ml=volumes or {},
    )


def test_duplicates_are_told_of_the_later_case() -> None:
    found = duplicates({"b": case("x"), "a": case("x"), "c": case("y"), "d": case(), "e": case()})
    assert [(one.case_id, one.found, one.severity) for one in found] == [("b", "the same image as a", "warning")]


def test_duplicates_that_contradict_or_leak_are_errors() -> None:
    found = duplicates({"a": case("x", label="1"), "b": case("x", label="2")})
    assert [(one.found, one.severity) for one in found] == [("the same image as a, with another label", "error")]
    found = duplicates({"a": case("x"), "b": case("x")}, test_cases={"b"})
    assert [one.severity for one in found] == ["error"]


def test_a_patient_may_have_several_cases_on_one_side() -> None:
    patients = {"a": "Ann", "b": "Ann", "c": "Bob"}
    assert patients_on_both_sides(patients, ["a", "b"], ["c", "d"], "x and y") == []
    found = patients_on_both_sides(patients, ["a", "c"], ["b", "d"], "x and y")
    assert [(one.case_id, one.found) for one in found] == [
        ("b", "patient Ann is on both sides of x and y, there with case a")
    ]


@pytest.mark.parametrize("factor", [1.0, 2.9])
def test_what_varies_little_is_no_outlier(factor: float) -> None:
    cases = {f"c{n}": case(spacing=1.0) for n in range(9)} | {"odd": case(spacing=factor)}
    assert outliers(cases) == []


def test_the_odd_one_is_found_however_alike_the_others_are() -> None:
    cases = {f"c{n}": case(spacing=1.0) for n in range(2)} | {"odd": case(spacing=3.1)}
    found = outliers(cases)
    assert [one.case_id for one in found] == ["odd"]
    assert found[0].found == "the spacing is 3.1x3.1x3.1 mm, usually about 1x1x1 mm in this dataset"


def test_volumes_that_vary_by_nature_are_judged_by_how_much_they_do() -> None:
    random = np.random.default_rng(0)
    volumes = np.exp(random.normal(2, 1, 100))  # a factor of e from case to case, as tumours vary
    cases = {f"c{n}": case(volumes={1: float(volume)}) for n, volume in enumerate(volumes)}
    assert outliers(cases) == []
    found = outliers(cases | {"odd": case(volumes={1: float(np.exp(2 + 8))})})
    assert [one.case_id for one in found] == ["odd"]


def test_a_mixed_dataset_is_told_once() -> None:
    cases = {f"c{n:02d}": case("x", spread=100.0 if n < 16 else 5000.0) for n in range(20)}
    (found,) = outliers(cases, ["MRI"])
    assert found.case_id == ""
    assert found.found == (
        "the intensity range of MRI is mixed, 100 to 5e+03, usually about 100; far off: c16, c17, c18, c19"
    )


def test_of_two_that_differ_none_is_the_odd_one() -> None:
    assert outliers({"a": case(spacing=1), "b": case(spacing=30)}) == []
