"""fingerprint.json, plan.json and splits.json of one dataset."""

from pathlib import Path

from moe_pipeline.errors import StaleCacheError
from moe_pipeline.planning.preset import load_planning_preset
from moe_pipeline.planning.validation import check_plan
from moe_pipeline.records.planning import Fingerprint, Plan, Splits


def load_fingerprint(folder: Path) -> Fingerprint:
    """Fingerprint of a planned dataset.

    Raises:
        RecordError: if it is missing or invalid.
    """
    return Fingerprint.load(folder / "fingerprint.json")


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
    path = folder / "plan.json"
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
    return Splits.load(folder / "splits.json")
