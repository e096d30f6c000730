"""What a plan will cost: disk, memory and minutes of `moe finetune` with one fold held back.

The costs of single crops, prompts and voxels were measured and stand in plans/defaults.json. Here they are multiplied.
"""

import numpy as np

from moe_pipeline.planning.machine import Machine
from moe_pipeline.planning.preset import FoundationPreset
from moe_pipeline.records.planning import Estimates, Fingerprint, Plan

REASON = (
    "for one fold on this machine's processor with nothing else to do: times that were measured with the foundation, "
    "scaled by the speed of a matrix product, within about a factor of two; a GPU is much faster"
)
_VOXEL_BYTES = 13  # of the largest case while places to cut from are looked for
_SEARCHED_PER_CASE = 3  # crops for the prompter


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
    crops_mb = n_crops * (2 * preset.embedding_values + costs.label_bytes * plan.view.size_voxels**3) / 1e6
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
