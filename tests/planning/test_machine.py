import time

import pytest

from moe_pipeline.planning.machine import Machine, product_gflops, this_machine


def test_a_machine_is_measured_quickly() -> None:
    began = time.process_time()
    here = this_machine()
    assert time.process_time() - began < 1.0
    assert here.memory_mb > 10
    assert here.threads >= 1
    assert 0.1 < product_gflops() < 10_000


def test_threads_help_up_to_a_point() -> None:
    one = Machine(memory_mb=1, product_gflops=100)
    assert one.speed == 100
    assert one.model_copy(update={"threads": 2}).speed == pytest.approx(168, abs=1)
    assert one.model_copy(update={"threads": 64}).speed == one.model_copy(update={"threads": 8}).speed
