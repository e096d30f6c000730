"""Workspaces with phantom datasets."""

from moe_pipeline.planning.plan_dataset import plan_dataset
from moe_pipeline.records.foundation import View
from moe_pipeline.workspace import Workspace
from tests.phantoms.images import write_phantom_dataset

PLANNED_VIEW = View(spacing_mm=1.5, size_voxels=32, normalisation="zscore_clipped")
SMALL_PLAN = {"crops_per_case": 2, "copies_per_case": 2, "steps_per_epoch": 3, "batch_size": 4}
"""Fields of a plan that is quick to follow."""


def add_planned(place: Workspace, name: str, n_cases: int, seed: int = 0, **of_plan: int) -> None:
    """A phantom dataset, planned for the workspace's foundation `tiny`, with changed fields of its plan."""
    folder = write_phantom_dataset(place.raw(name), n_cases=n_cases, seed=seed)
    plan = plan_dataset(folder, place.plans(name), "tiny", place.weights).plan
    plan.model_copy(update=of_plan).save(place.plan(name))
