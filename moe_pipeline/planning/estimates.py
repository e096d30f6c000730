"""What a plan will cost: disk, memory and minutes of `moe finetune` with one fold held back."""

import numpy as np

from moe_pipeline.planning.machine import Machine
from moe_pipeline.planning.preset import FoundationPreset
from moe_pipeline.records.planning import Estimates, Fingerprint, Plan

REASON = (
    "for one fold on this machine's processor with nothing else to do: times that were measured with the foundation, "
    "scaled by the speed of a matrix product, within about a factor of two; a GPU is much faster"
)
_VOXEL_BYTES = 8  # of the largest case: image and label, and one copy of each


def estimate(plan: Plan, fingerprint: Fingerprint, preset: FoundationPreset, machine: Machine) -> Estimates:
    """Costs of a plan, perhaps edited, on a machine.

    Args:
        plan: its own estimates are not looked at.
        fingerprint: of the dataset.
        preset: the foundation's.
        machine: that will do the work.
    """
    costs = preset.costs
    n_crops = crops_in_cache(plan, fingerprint, preset.n_folds)
    crop_bytes = 2 * preset.embedding_values + costs.label_bytes * plan.view.size_voxels**3
    largest = max(int(np.prod(case.shape)) for case in fingerprint.cases)
    seconds = n_crops * costs.encode_seconds + plan.steps * plan.batch_size * costs.prompt_seconds
    slower = costs.product_gflops / machine.speed
    memory_mb = costs.fixed_memory_mb + plan.batch_size * costs.prompt_memory_mb + largest * _VOXEL_BYTES / 1e6
    return Estimates(
        disk_mb=round(n_crops * crop_bytes / 1e6, 1),
        memory_mb=round(memory_mb),
        minutes=round((costs.fixed_seconds + seconds * slower) / 60, 1),
    )


def crops_in_cache(plan: Plan, fingerprint: Fingerprint, n_folds: int) -> int:
    """Crops that training one fold encodes: cases that are held back have no augmented copies."""
    n_cases = sum(1 for case in fingerprint.cases if set(case.classes) & set(plan.classes))
    n_held_back = round(n_cases / min(n_folds, max(n_cases, 1)))
    return plan.crops_per_case * ((n_cases - n_held_back) * plan.copies_per_case + n_held_back)
