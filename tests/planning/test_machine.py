from collections.abc import Callable
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import pytest

from moe_pipeline.planning.machine import Machine, entries_in_cache, estimate, product_gflops, this_machine
from moe_pipeline.planning.plan_dataset import PlannedFiles, plan_dataset
from moe_pipeline.records.planning import Estimates

MACHINE = Machine(memory_mb=16_000, product_gflops=100)


def test_this_machine_is_measured() -> None:
    here = this_machine()
    assert here.memory_mb > 10
    assert here.threads >= 1
    assert 0.1 < product_gflops() < 10_000


@pytest.mark.parametrize(("milliseconds", "n_products"), [(1, 100), (30, 4), (5000, 1)])
def test_measuring_ends_after_a_tenth_of_a_second_and_once_at_least(
    monkeypatch: pytest.MonkeyPatch, milliseconds: int, n_products: int
) -> None:
    clock = count(0, milliseconds)  # of a machine on which each product lasts so long
    monkeypatch.setattr("moe_pipeline.planning.machine.time", SimpleNamespace(perf_counter=lambda: next(clock) / 1000))
    assert product_gflops() == pytest.approx(2e-6 * 64 * 768 * 768 / milliseconds)
    assert next(clock) == 2 * n_products * milliseconds  # it was looked at before and after each


def test_threads_help_up_to_a_point() -> None:
    one = Machine(memory_mb=1, product_gflops=100)
    assert one.speed == 100
    assert one.model_copy(update={"threads": 2}).speed == pytest.approx(168, abs=1)
    assert one.model_copy(update={"threads": 64}).speed == one.model_copy(update={"threads": 8}).speed


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory, make_phantom_dataset: Callable[..., Path]) -> PlannedFiles:
    root = tmp_path_factory.mktemp("estimates")
    return plan_dataset(make_phantom_dataset(root / "Dataset001_P", 10), root / "plans")


def costs(planned: PlannedFiles, gflops: float = 100, **changes: int) -> Estimates:
    plan = planned.plan.model_copy(update=changes)
    machine = MACHINE.model_copy(update={"product_gflops": gflops})
    return estimate(plan, planned.fingerprint, planned.preset, machine)


def test_held_back_cases_have_no_copies(planned: PlannedFiles) -> None:
    plan = planned.plan.model_copy(update={"copies_per_case": 4})
    assert entries_in_cache(plan, n_cases=10, n_folds=5) == 8 * 4 + 2
    assert entries_in_cache(plan, n_cases=2, n_folds=5) == 4 + 1
    assert entries_in_cache(plan, n_cases=0, n_folds=5) == 0


def test_only_cases_with_a_planned_class_cost(planned: PlannedFiles) -> None:
    only_bars = planned.plan.model_copy(update={"classes": {3: "bar"}})  # in every second case
    everything = estimate(planned.plan, planned.fingerprint, planned.preset, MACHINE)
    assert estimate(only_bars, planned.fingerprint, planned.preset, MACHINE).disk_mb < everything.disk_mb


def test_an_edit_changes_what_it_costs(planned: PlannedFiles) -> None:
    before, more = costs(planned, epochs=10), costs(planned, epochs=20)
    assert before.minutes < more.minutes < 2 * before.minutes
    assert more.disk_mb == before.disk_mb
    assert costs(planned, crops_per_case=32).disk_mb > before.disk_mb
    assert costs(planned, batch_size=16).memory_mb > costs(planned, batch_size=8).memory_mb


def test_a_faster_machine_needs_less_time(planned: PlannedFiles) -> None:
    slow, fast = costs(planned, gflops=50), costs(planned, gflops=500)
    assert fast.minutes < slow.minutes / 3
    assert fast.disk_mb == slow.disk_mb


def test_estimates_are_no_choices(planned: PlannedFiles) -> None:
    elsewhere = planned.plan.model_copy(update={"estimates": costs(planned, gflops=5)})
    assert elsewhere != planned.plan
    assert elsewhere.sha256() == planned.plan.sha256()
    assert planned.plan.model_copy(update={"epochs": 1}).sha256() != planned.plan.sha256()
