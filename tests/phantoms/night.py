"""A folder of 30 images of which 8 are bad, each in another way, and clicks for all of them."""

import json
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from moe_pipeline.imaging.geometry import Geometry
from moe_pipeline.imaging.io.files import write_image
from moe_pipeline.imaging.volume import Volume
from tests.phantoms.images import shear_file

GRID = Geometry((14, 12, 10), (1.0, 1.0, 2.0))
REASONS = {  # case: what its row says
    "bad_4d": "found 4D",
    "bad_clicks": "lies outside the image",
    "bad_colour": "colour",
    "bad_empty": "not a readable image",
    "bad_flat": "expected a 3D image",
    "bad_nan": "1 voxels are NaN",
    "bad_sheared": "not orthogonal",
    "bad_text": "not a readable image",
}
N_GOOD = 22


def noise(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(100, 20, GRID.shape).astype(np.float32)


def write_good(folder: Path, case: str, seed: int) -> None:
    write_image(Volume(noise(seed), GRID), folder / f"{case}.nii.gz", GRID)


def write_bad(folder: Path) -> None:
    array = noise(0).transpose()  # (z, y, x)
    sitk.WriteImage(sitk.JoinSeries([sitk.GetImageFromArray(array)] * 2), str(folder / "bad_4d.nii.gz"))
    write_good(folder, "bad_clicks", 1)
    colours = np.repeat(array.astype(np.uint8)[..., None], 3, axis=-1)
    sitk.WriteImage(sitk.GetImageFromArray(colours, isVector=True), str(folder / "bad_colour.nii.gz"))
    (folder / "bad_empty.nii.gz").touch()
    sitk.WriteImage(sitk.GetImageFromArray(array[0]), str(folder / "bad_flat.nii.gz"))
    with_gap = noise(0)
    with_gap[2, 2, 2] = np.nan
    write_image(Volume(with_gap, GRID), folder / "bad_nan.nii.gz", GRID)
    write_image(Volume(noise(0), GRID), folder / "bad_sheared.nii", GRID)
    shear_file(folder / "bad_sheared.nii", 0.4)
    (folder / "bad_text.nii.gz").write_text("not an image at all")


def write_clicks(path: Path, **moved: list[float]) -> None:
    cases = [*REASONS, *(f"good_{number:02d}" for number in range(N_GOOD))]
    places = {case: [6, 6, 4] for case in cases} | {"bad_clicks": [6, 60, 4]} | moved
    objects = {
        case: [{"class_id": 3, "class_name": "noise", "points": [places[case]], "labels": [1]}] for case in cases
    }
    path.write_text(json.dumps({"space": "voxel_xyz", "cases": objects}))


def write_night(folder: Path) -> None:
    """`images/` and `clicks.json`."""
    images = folder / "images"
    images.mkdir()
    write_bad(images)
    for number in range(N_GOOD):
        write_good(images, f"good_{number:02d}", number)
    write_clicks(folder / "clicks.json")
