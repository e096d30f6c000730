import resource
import sys

import pytest
import torch

from moe_pipeline.training.engine.runtime import keep_freed_memory


@pytest.mark.skipif(sys.platform != "linux", reason="a setting of glibc")
def test_a_large_tensor_is_made_again_in_the_same_memory() -> None:
    if not keep_freed_memory():
        pytest.skip("another C library")

    def pages_of_another_tensor() -> int:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        torch.ones(8 << 20)  # 32 MiB are 8192 pages
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

    assert min(pages_of_another_tensor() for _ in range(4)) < 1000
