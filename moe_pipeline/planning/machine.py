"""What there is to work with: free memory, and how fast the processor multiplies."""

import time

import numpy as np
import psutil
from pydantic import Field
from threadpoolctl import threadpool_info, threadpool_limits

from moe_pipeline.records.base import Part

_PROBE_SECONDS = 0.1
_USEFUL_THREADS = 8  # small networks gain little from more


class Machine(Part):
    """A computer as the planner sees it."""

    memory_mb: float = Field(gt=0)
    """Free memory."""
    product_gflops: float = Field(gt=0)
    """Speed of matrix products of one thread, see `product_gflops`."""
    threads: int = Field(default=1, ge=1)
    """Threads that computing may take."""

    @property
    def speed(self) -> float:
        """Billions of operations per second of all threads together; two give 1.7 times one, as we measured."""
        return float(self.product_gflops * min(self.threads, _USEFUL_THREADS) ** 0.75)


def this_machine() -> Machine:
    """The computer we run on, now."""
    memory_mb = round(psutil.virtual_memory().available / 1e6, 1)
    pools = [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]
    return Machine(memory_mb=memory_mb, product_gflops=round(product_gflops(), 1), threads=max(pools, default=1))


def product_gflops() -> float:
    """Billions of operations per second in matrix products of one thread, of the size that networks use.

    Numpy's, the fastest of a tenth of a second: with one thread and the best of many a busy machine says nearly the
    same as a quiet one, while two threads that wait for each other can be a hundred times slower on it.
    """
    left, right = np.ones((64, 768), np.float32), np.ones((768, 768), np.float32)
    seconds: list[float] = []
    with threadpool_limits(1, "blas"):
        while not seconds or sum(seconds) < _PROBE_SECONDS:
            began = time.perf_counter()
            left @ right
            seconds.append(time.perf_counter() - began)
    return float(2e-9 * left.size * right.shape[1] / min(seconds))
