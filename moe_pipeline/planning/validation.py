"""Whether a plan, perhaps edited, fits its dataset and its foundation. Its own schema was checked when it was read."""

from pathlib import Path

from moe_pipeline.errors import RecordError
from moe_pipeline.planning.preset import FoundationPreset
from moe_pipeline.records.planning import Fingerprint, Plan


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
        f"view.{field}: found {getattr(plan.view, field)}; {preset.name} allows {getattr(preset.view, field)} only"
        for field in ("size_voxels", "normalisation")
        if getattr(plan.view, field) != getattr(preset.view, field)
    ]
