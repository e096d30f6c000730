"""The thread beside the training."""

import resource
import sys

import pytest
import torch

from moe_pipeline.training.engine.runtime import keep_freed_memory, quiet_worker


def test_the_worker_computes_alone_and_nobody_else_has_to() -> None:
    count = torch.get_num_threads()
    with quiet_worker() as worker, quiet_worker() as another:
        assert worker.submit(torch.get_num_threads).result() == 1
        assert another.submit(torch.get_num_threads).result() == 1
        assert torch.get_num_threads() == count


@pytest.mark.skipif(sys.platform != "linux", reason="a setting of glibc")
def test_a_large_tensor_is_made_again_in_the_same_memory() -> None:
    if not keep_freed_memory():
        pytest.skip("another C library")

    def pages_of_another_tensor() -> int:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        torch.ones(8 << 20)  # 32 MiB are 8192 pages
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

    assert min(pages_of_another_tensor() for _ in range(4)) < 1000
