"""fingerprint.json, plan.json and splits.json of one dataset."""

from pathlib import Path

from moe_pipeline.errors import RecordError, StaleCacheError
from moe_pipeline.paths import PlanFolder
from moe_pipeline.planning.preset import FoundationPreset, load_planning_preset
from moe_pipeline.records.foundation import by_axis
from moe_pipeline.records.planning import Fingerprint, Plan, Splits


def check_plan(plan: Plan, fingerprint: Fingerprint, preset: FoundationPreset, path: Path) -> None:
    """Look at what only dataset and foundation can tell.

    Args:
        plan: as read.
        fingerprint: of its dataset.
        preset: of its foundation.
        path: of the plan, for the message.

    Raises:
        RecordError: names every field that does not fit, what was found and what is allowed.
    """
    faults = [*_dataset_faults(plan, fingerprint), *_view_faults(plan, preset)]
    if faults:
        raise RecordError(f"{path}: not a valid Plan: {'; '.join(faults)}")


def _dataset_faults(plan: Plan, fingerprint: Fingerprint) -> list[str]:
    faults = []
    present = {value: found.name for value, found in fingerprint.classes.items() if found.cases > 0}
    unknown = [str(value) for value in plan.classes if value not in present]
    if unknown:
        allowed = ", ".join(f"{value} ({name})" for value, name in present.items())
        faults.append(f"classes: no case has a voxel of {', '.join(unknown)}; allowed are {allowed}")
    if str(plan.channel) not in fingerprint.channel_names:
        allowed = ", ".join(f"{number} ({name})" for number, name in fingerprint.channel_names.items())
        faults.append(f"channel: there is no {plan.channel}; allowed are {allowed}")
    return faults


def _view_faults(plan: Plan, preset: FoundationPreset) -> list[str]:
    """Spacing is free; size and intensity rule are what the weights were trained with."""
    return [
        f"view.{field}: found {found}; {preset.name} allows {allowed} only"
        for field, found, allowed in (
            ("size_voxels", by_axis(plan.view.size_voxels), by_axis(preset.view.size_voxels)),
            ("normalisation", plan.view.normalisation, preset.view.normalisation),
        )
        if found != allowed
    ]


def load_fingerprint(folder: Path) -> Fingerprint:
    """Fingerprint of a planned dataset.

    Raises:
        RecordError: if it is missing or invalid.
    """
    return Fingerprint.load(PlanFolder(folder).fingerprint)


def load_plan(folder: Path, weights_root: Path | None = None) -> Plan:
    """Plan of a dataset, perhaps edited; validated, and compared with the fingerprint beside it and its foundation.

    Args:
        folder: of the dataset's plan.
        weights_root: where imported weights are.

    Raises:
        RecordError: if it is missing or invalid; names the field, what was found and what is allowed.
        StaleCacheError: if it was made from another fingerprint.
        CheckpointError: if there is no such foundation.
    """
    path = PlanFolder(folder).plan
    plan, fingerprint = Plan.load(path), load_fingerprint(folder)
    if plan.fingerprint_sha256 != fingerprint.sha256():
        raise StaleCacheError(
            f"{path}: made from fingerprint {plan.fingerprint_sha256[:12]}, but fingerprint.json is "
            f"{fingerprint.sha256()[:12]}; plan again with `moe plan {plan.dataset}`"
        )
    check_plan(plan, fingerprint, load_planning_preset(plan.foundation, weights_root), path)
    return plan


def load_splits(folder: Path) -> Splits:
    """Folds of a planned dataset.

    Raises:
        RecordError: if they are missing or invalid.
    """
    return Splits.load(PlanFolder(folder).splits)
