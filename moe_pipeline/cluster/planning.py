"""Cases of a raw dataset that are read and measured elsewhere."""

from functools import partial
from pathlib import Path

from moe_pipeline.cluster.each import EachOnEngine
from moe_pipeline.cluster.engines import Engine
from moe_pipeline.cluster.records import Resources
from moe_pipeline.cluster.units import Board, Unit, stat_of
from moe_pipeline.datasets.dataset import Case, open_dataset
from moe_pipeline.files import sha256_json
from moe_pipeline.planning.fingerprint import case_files, description_sha256
from moe_pipeline.planning.plan_dataset import not_fingerprinted
from moe_pipeline.records.dataset import DatasetJson
from moe_pipeline.records.planning import CaseFingerprint


def fingerprints_on(
    engine: Engine, resources: Resources, folder: Path, plans: Path
) -> EachOnEngine[Case, CaseFingerprint]:
    """Whoever reads the cases for `plan_dataset`.

    Args:
        engine: where.
        resources: that a case takes.
        folder: the raw dataset.
        plans: folder of its plan; the board is in it.
    """
    description = open_dataset(folder).json
    return EachOnEngine(
        engine,
        resources,
        Board(plans.resolve() / "units"),
        CaseFingerprint,
        partial(_unit, description_sha256(description)),
        partial(_rescue, description),
    )


def _unit(description: str, case: Case) -> Unit[Case]:
    return Unit(case.case_id, case, sha256_json([description, stat_of(case_files(case))]))


def _rescue(description: DatasetJson, case: Case, message: str) -> CaseFingerprint:
    return not_fingerprinted(case, description, message)
