"""A folder as `moe predict` leaves it, made by hand: what is in it is known."""

import json
from pathlib import Path

import numpy as np

from moe_pipeline.evaluation.folder import evaluate_folder
from moe_pipeline.files import csv_text
from moe_pipeline.imaging.geometry import Geometry
from moe_pipeline.imaging.io.files import write_image, write_label_map
from moe_pipeline.imaging.volume import Volume
from moe_pipeline.records.cases import CaseRow
from moe_pipeline.records.run import RunRecord, library_versions

GRID = Geometry((40, 48, 32), (1.0, 1.0, 1.5), (-20.0, -30.0, 10.0))
LESION = ((6, 16), (28, 40), (10, 22))
"""In voxels, half-open: at the patient's left and front (the axes run to R, A, S)."""
CLASS = "les'ion </script><script>document.title = 'broken'</script> & \"more\" ümlaut"
"""What a class may be called."""
CASES = ("scan_good", "be<i>er & \"b'", "third ünï")
FAILED = "</td><script>document.title = 'broken'</script>\nnew line"


def write_prediction(root: Path) -> Path:
    """Three cases whose prediction is the reference, half of it, and beside it; and one that failed.

    Returns:
        The folder of the prediction; images and references lie beside it.
    """
    out = root / "out"
    (x0, x1), (y0, y1), (z0, z1) = LESION
    reference = np.zeros(GRID.shape, np.uint8)
    reference[x0:x1, y0:y1, z0:z1] = 1
    rows = []
    for number, case in enumerate(CASES):
        noise = np.random.default_rng(number).normal(60, 4, GRID.shape).astype(np.float32)
        image = noise + 80 * reference
        prediction = np.zeros_like(reference)
        start, stop = [(x0, x1), (x0, (x0 + x1) // 2), (x1, x1 + 10)][number]
        prediction[start:stop, y0:y1, z0:z1] = 1
        write_image(Volume(image, GRID), root / "images" / f"{case}.nii.gz", GRID)
        write_label_map(Volume(reference, GRID), root / "references" / f"{case}.nii.gz", GRID)
        write_label_map(Volume(prediction, GRID), out / f"{case}.nii.gz", GRID)
        clicked = {"class_id": 1, "points": [_lps((11, 34, 16)), _lps((30, 10, 4))], "labels": [1, 0]}
        (out / "clicks").mkdir(exist_ok=True)
        content = {"schema_version": 1, "space": "world_lps_mm", "cases": {case: [clicked]}}
        (out / "clicks" / f"{case}.json").write_text(json.dumps(content))
        rows.append(_row(case, float(prediction.sum() * GRID.voxel_ml), number))
    rows.append(CaseRow(case=FAILED, status="failed", message=f"{FAILED}: {root}/images/secret.nii.gz cannot be read"))
    (out / "cases.csv").write_text(csv_text(list(CaseRow.model_fields), (row.model_dump() for row in rows)))
    evaluate_folder(out, root / "references", {1: CLASS}, out)
    settings = {"images": str(root / "images"), "references": str(root / "references"), "channel": 0}
    RunRecord(command="predict", versions=library_versions(), device="cpu", settings=settings, seconds=1.0).save(
        out / "run.json"
    )
    return out


def _row(case: str, volume_ml: float, number: int) -> CaseRow:
    return CaseRow(
        case=case,
        class_id=1,
        class_name=CLASS,
        status="ok",
        expert="Dataset001_One" if number else "general",
        weight=0.75 if number else 0.0,
        in_distribution="no" if number == 2 else "yes",
        prompt_source="prompts",
        n_clicks=2,
        volume_ml=round(volume_ml, 3),
    )


def _lps(voxel: tuple[int, int, int]) -> list[float]:
    return [float(value) for value in GRID.voxel_to_world(voxel) * (-1, -1, 1)]
