"""Images of every kind with damaged bytes: each costs its own case at most, and every case is accounted for."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk

from moe_pipeline.imaging.io.files import read_geometry, read_label_map
from moe_pipeline.inference.batch.folder import predict_folder
from moe_pipeline.inference.keywords import predict_options
from moe_pipeline.mixture.model import Mixture

N_DAMAGED = 24
_HEADER_BYTES = 400


def ball() -> np.ndarray:
    x, y, z = np.indices((16, 16, 16))
    return (100.0 * ((x - 6) ** 2 + (y - 7) ** 2 + (z - 8) ** 2 <= 16)).astype(np.int16).transpose()


def damaged(whole: bytes, random: np.random.Generator) -> bytes:
    """Some bytes of the header changed; now and then cut off."""
    content = bytearray(whole)
    for place in random.integers(0, min(len(content), _HEADER_BYTES), random.integers(1, 5)):
        content[place] = random.integers(0, 256)
    return bytes(content[: random.integers(0, len(content))] if random.random() < 0.2 else content)


@pytest.mark.parametrize("ending", ["nii", "nii.gz", "nrrd", "mha", "dcm"])
def test_damaged_headers_cost_their_own_cases(
    ending: str, follower: Mixture, tmp_path: Path, dicom_phantoms: Any
) -> None:
    images, random = tmp_path / "images", np.random.default_rng(0)
    images.mkdir()
    sitk.WriteImage(sitk.GetImageFromArray(ball()), str(images / "whole.nii.gz"))
    cases = ["whole", *(f"bad_{number:02d}" for number in range(N_DAMAGED))]
    for case in cases[1:]:
        if ending == "dcm":
            dicom_phantoms.write_series(images / case, (10, 14, 18, 22))
            file = sorted((images / case).iterdir())[int(random.integers(0, 4))]
        else:
            file = images / f"{case}.{ending}"
            sitk.WriteImage(sitk.GetImageFromArray(ball()), str(file))
        file.write_bytes(damaged(file.read_bytes(), random))
    prompt = {"class_id": 1, "points": [[2, 3, 2]], "labels": [1]}
    prompts = tmp_path / "p.json"
    prompts.write_text(json.dumps({"space": "voxel_xyz", "cases": {case: [prompt] for case in cases}}))
    outcome = predict_folder(follower, predict_options(images, tmp_path / "out", prompts=prompts))
    tally = outcome.tally
    assert tally.found == tally.done + tally.before + tally.n_left_out + tally.failed
    assert tally.waiting == 0
    with (tmp_path / "out" / "cases.csv").open() as stream:
        rows = {row["case"]: row for row in csv.DictReader(stream)}
    assert rows["whole"]["status"] in ("ok", "absent")
    assert tally.done + tally.failed == len(rows)
    for case, row in rows.items():
        path = tmp_path / "out" / f"{case}.nii.gz"
        assert path.exists() == (row["status"] != "failed"), case
        assert (row["message"] != "") or row["status"] == "ok", case
        if path.exists():
            image = next(file for file in images.iterdir() if file.name.split(".")[0] == case)
            assert not read_geometry(image).canonical().differences(read_label_map(path).geometry), case
