"""What there is to work with: free memory, and how fast the processor multiplies."""

import time
from math import prod

import numpy as np
import psutil
from pydantic import Field
from threadpoolctl import threadpool_info, threadpool_limits

from moe_pipeline.planning.preset import FoundationPreset
from moe_pipeline.records.base import Part
from moe_pipeline.records.planning import Estimates, Fingerprint, Plan

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


REASON = (
    "for one fold on this machine's processor with nothing else to do: times that were measured with the foundation, "
    "scaled by the speed of a matrix product, within about a factor of two; a GPU is much faster"
)
_VOXEL_BYTES = 13  # of the largest case while places to cut from are looked for
_SEARCHED_PER_CASE = 3  # crops for the click proposer


def estimate(plan: Plan, fingerprint: Fingerprint, preset: FoundationPreset, machine: Machine) -> Estimates:
    """Costs of a plan, perhaps edited, on a machine.

    Args:
        plan: its own estimates are not looked at.
        fingerprint: of the dataset.
        preset: the foundation's.
        machine: that will do the work.
    """
    costs = preset.costs
    sizes = [int(np.prod(case.shape)) for case in fingerprint.cases if set(case.classes) & set(plan.classes)] or [0]
    n_entries = entries_in_cache(plan, len(sizes), preset.n_folds)
    n_crops = plan.crops_per_case * n_entries + max(costs.search_crops, _SEARCHED_PER_CASE * len(sizes))
    crops_mb = n_crops * (2 * preset.embedding_values + costs.label_bytes * prod(plan.view.size_voxels)) / 1e6
    seconds = (
        costs.fixed_seconds
        + n_crops * costs.encode_seconds
        + (n_entries + len(sizes)) * float(np.mean(sizes)) * costs.voxel_seconds
        + plan.steps * plan.batch_size * costs.prompt_seconds
    )
    memory_mb = costs.fixed_memory_mb + plan.batch_size * costs.prompt_memory_mb + max(sizes) * _VOXEL_BYTES / 1e6
    return Estimates(
        disk_mb=round(crops_mb + costs.expert_mb, 1),
        memory_mb=round(memory_mb),
        minutes=round(seconds * costs.product_gflops / machine.speed / 60, 1),
    )


def entries_in_cache(plan: Plan, n_cases: int, n_folds: int) -> int:
    """Cases and their augmented copies that training one fold encodes; who is held back has no copies."""
    n_held_back = round(n_cases / min(n_folds, n_cases)) if n_cases else 0
    return (n_cases - n_held_back) * plan.copies_per_case + n_held_back
