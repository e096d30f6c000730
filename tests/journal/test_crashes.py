import errno
from pathlib import Path

import pytest

from dataset_conversion import case as stage
from dataset_conversion.checking import case_check
from dataset_conversion.checking.check import check
from dataset_conversion.checking.fixing import load
from dataset_conversion.convert import convert
from moe_pipeline.errors import ImageError
from moe_pipeline.journal.crashes import CrashLog
from moe_pipeline.planning import plan_dataset as planning
from moe_pipeline.planning.fingerprint import fingerprint_case

Make = "make_phantom_dataset"


def fails(error: BaseException) -> str:
    raise error


def test_our_own_errors_are_told_and_others_are_written_down(tmp_path: Path) -> None:
    crashes = CrashLog(tmp_path)
    assert crashes.guarded("a", lambda: "done", str) == "done"
    assert crashes.guarded("a", lambda: fails(ImageError("a.nii: truncated")), str) == "a.nii: truncated"
    assert not crashes.path.exists()
    told = crashes.guarded("b", lambda: fails(ZeroDivisionError("odd")), str)
    assert told == f"b: ZeroDivisionError: odd. This is an error of moe; please report it with {crashes.path}"
    with pytest.raises(OSError, match="No space left"):
        crashes.guarded("d", lambda: fails(OSError(errno.ENOSPC, "No space left on device")), str)
    text = crashes.path.read_text()
    assert "b\nTraceback (most recent call last):" in text
    assert "in fails" in text
    with pytest.raises(KeyboardInterrupt):
        crashes.guarded("c", lambda: fails(KeyboardInterrupt()), str)


def test_what_nobody_foresaw_costs_its_case_only(
    tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = request.getfixturevalue(Make)(tmp_path / "Dataset001_P", 3)

    def odd(case: object, *rest: object) -> object:
        if "p001" in str(case):
            raise ZeroDivisionError("odd")
        return real(case, *rest)  # type: ignore[operator]

    real: object = load
    monkeypatch.setattr(stage, "load", odd)
    report = convert(source, tmp_path / "out")
    assert [row.case_id for row in report.failed] == ["p001"]
    assert "ZeroDivisionError: odd" in report.failed[0].message
    assert "in odd" in (tmp_path / "out" / "crashes.log").read_text()
    assert [row.status for row in convert(source, tmp_path / "out").rows] == ["present", "failed", "present"]

    real = case_check._load
    monkeypatch.setattr(case_check, "_load", odd)
    (found,) = check(source, tmp_path / "check").errors
    assert (found.case_id, "ZeroDivisionError" in found.found) == ("p001", True)
    assert (tmp_path / "check" / "crashes.log").is_file()

    real = fingerprint_case
    monkeypatch.setattr(planning, "fingerprint_case", odd)
    made = planning.plan_dataset(source, tmp_path / "plans", leave_out_faulty=True)
    assert [case.case_id for case in made.fingerprint.cases] == ["p000", "p002"]
    assert (tmp_path / "plans" / "crashes.log").is_file()
