import threading
from pathlib import Path

import numpy as np
import pytest

from moe_pipeline.imaging.geometry import Geometry
from moe_pipeline.imaging.io.memory import case_bytes
from moe_pipeline.imaging.io.native import write_native
from moe_pipeline.imaging.volume import Volume
from moe_pipeline.parallel import MemoryBudget, run_each
from moe_pipeline.progress import silent


def test_every_item_is_worked_on_once_and_progress_counts() -> None:
    told: list[float] = []
    results = run_each(lambda n: n * n, range(20), lambda _: 0, "squares", lambda _, done, __: told.append(done))
    assert sorted(results) == [n * n for n in range(20)]
    assert told == list(range(21))


def test_what_has_not_begun_is_dropped_when_work_raises() -> None:
    begun: list[int] = []

    def work(n: int) -> int:
        begun.append(n)
        if n == 0:
            raise ValueError("broken")
        threading.Event().wait(0.01)
        return n

    with pytest.raises(ValueError, match="broken"):
        list(run_each(work, range(1000), lambda _: 0, "work", silent))
    assert len(begun) < 100


def test_memory_is_shared_and_a_giant_runs_alone() -> None:
    budget = MemoryBudget(10)
    with budget.reserved(100):  # more than there is, and nobody else: allowed
        assert budget.used == 100
    with budget.reserved(4), budget.reserved(6):
        assert budget.used == 10
    assert budget.used == 0


def test_large_items_wait_for_each_other() -> None:
    together: list[int] = []
    running = 0
    lock = threading.Lock()

    def work(_: int) -> None:
        nonlocal running
        with lock:
            running += 1
            together.append(running)
        threading.Event().wait(0.005)
        with lock:
            running -= 1

    list(run_each(work, range(6), lambda _: 1 << 60, "giants", silent))
    assert together == [1] * 6


def test_bytes_are_counted_by_voxels_of_large_files_only(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    grid = Geometry((128, 128, 64), (1, 1, 1))
    write_native(Volume(random.normal(size=grid.shape).astype(np.float32), grid), tmp_path / "large.nii")
    write_native(Volume(np.zeros((4, 4, 4), np.uint8), Geometry((4, 4, 4), (1, 1, 1))), tmp_path / "small.nii")
    assert case_bytes([tmp_path / "large.nii"]) == 12 * 128 * 128 * 64
    assert case_bytes([tmp_path / "small.nii"]) == 0
    (tmp_path / "slice.dcm").write_bytes(bytes(5_000_000))
    assert case_bytes([tmp_path / "slice.dcm"]) == 30_000_000
    assert case_bytes([tmp_path / "missing.nii"]) == 0
