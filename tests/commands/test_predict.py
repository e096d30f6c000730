from pathlib import Path

import numpy as np

from moe_pipeline.commands import predict as stage
from moe_pipeline.evaluation.table import METRICS_CSV, read_table
from moe_pipeline.imaging.geometry import Geometry
from moe_pipeline.imaging.io.files import write_label_map
from moe_pipeline.imaging.volume import Volume
from moe_pipeline.records.cases import CaseRow

GRID = Geometry((6, 5, 4), (1.0, 1.0, 2.0))


def test_cases_with_numbers_like_channels_are_all_scored(tmp_path: Path) -> None:
    names = [f"scan_{number:04d}" for number in range(3)]
    array = np.zeros(GRID.shape, np.uint8)
    array[2:4, 2:4, 1:3] = 1
    for name in names:
        for folder in ("out", "references"):
            write_label_map(Volume(array, GRID), tmp_path / folder / f"{name}.nii.gz", GRID)
    rows = [CaseRow(case=name, status="ok", class_id=1, class_name="ball") for name in names]
    _, n_failed = stage._score(tmp_path / "out", tmp_path / "references", rows, names)
    assert n_failed == 0
    assert read_table(tmp_path / "out" / METRICS_CSV)["case"].tolist() == names
