from collections.abc import Callable
from pathlib import Path

import pytest

from moe_pipeline.planning.machine import Machine, entries_in_cache, estimate
from moe_pipeline.planning.plan_dataset import PlannedFiles, plan_dataset
from moe_pipeline.records.planning import Estimates

MACHINE = Machine(memory_mb=16_000, product_gflops=100)


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
