"""fingerprint.json, plan.json and splits.json of one dataset."""

from pathlib import Path

from moe_pipeline.errors import StaleCacheError
from moe_pipeline.records.planning import Fingerprint, Plan, Splits


def load_fingerprint(folder: Path) -> Fingerprint:
    """Fingerprint of a planned dataset.

    Raises:
        RecordError: if it is missing or invalid.
    """
    return Fingerprint.load(folder / "fingerprint.json")


def load_plan(folder: Path) -> Plan:
    """Plan of a dataset, perhaps edited; validated, and compared with the fingerprint beside it.

    Raises:
        RecordError: if it is missing or invalid.
        StaleCacheError: if it was made from another fingerprint.
    """
    plan = Plan.load(folder / "plan.json")
    fingerprint = load_fingerprint(folder).sha256()
    if plan.fingerprint_sha256 != fingerprint:
        raise StaleCacheError(
            f"{folder / 'plan.json'}: made from fingerprint {plan.fingerprint_sha256[:12]}, but fingerprint.json is "
            f"{fingerprint[:12]}; plan again with `moe plan {plan.dataset}`"
        )
    return plan


def load_splits(folder: Path) -> Splits:
    """Folds of a planned dataset.

    Raises:
        RecordError: if they are missing or invalid.
    """
    return Splits.load(folder / "splits.json")
