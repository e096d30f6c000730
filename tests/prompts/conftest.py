"""Images in any orientation, and the prompt files that other tools write for them: by SimpleITK, not by our code."""

import csv
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import permutations, product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from moe_pipeline.imaging.geometry import Geometry
from moe_pipeline.imaging.io.files import read_geometry
from moe_pipeline.prompts.prompt import Prompt
from tests.phantoms.images import write_file

SIDES = (7, 9, 5)
VOXELS = ((1, 2, 3), (6, 0, 4), (0, 8, 0))
NAMES = ("liver-1", "liver neg-2", "7 spleen-1")


@dataclass(frozen=True)
class Scan:
    """An image on disk, and where SimpleITK says that its voxels lie."""

    path: Path
    image: Any

    @property
    def geometry(self) -> Geometry:
        return read_geometry(self.path)

    def lps(self, voxel: Sequence[int]) -> list[float]:
        return list(self.image.TransformIndexToPhysicalPoint([int(index) for index in voxel]))


def directions() -> list[np.ndarray]:
    """All 48 axis orders and signs."""
    return [
        np.eye(3)[:, list(order)] * np.array(signs)
        for order, signs in product(permutations(range(3)), product((1, -1), repeat=3))
    ]


@pytest.fixture
def write_scan(tmp_path: Path) -> Callable[..., Scan]:
    """Writes an image `scan.<ending>`; oblique tilts it about all axes."""

    def write(direction: np.ndarray | None = None, *, oblique: bool = False, ending: str = ".nii.gz") -> Scan:
        tilt = Rotation.from_euler("xyz", (11, -17, 23), degrees=True).as_matrix() if oblique else np.eye(3)
        axes = tilt @ (np.eye(3) if direction is None else direction)
        path = tmp_path / "images" / f"scan{ending}"
        return Scan(path, write_file(path, np.zeros(SIDES, np.int16), (0.7, 1.1, 2.6), (-31.0, 47.5, 12.25), axes))

    return write


def slicer_json(path: Path, points: Sequence[Sequence[float]], labels: Sequence[str], system: str = "LPS") -> Path:
    flip = -1 if system == "RAS" else 1
    controls = [
        {
            "id": str(count),
            "label": label,
            "description": "",
            "associatedNodeID": "",
            "position": [flip * x, flip * y, z],
            "orientation": [-1.0, -0.0, -0.0, -0.0, -1.0, -0.0, 0.0, 0.0, 1.0],
            "selected": True,
            "visibility": True,
            "positionStatus": "defined",
        }
        for count, ((x, y, z), label) in enumerate(zip(points, labels, strict=True), start=1)
    ]
    controls.append({"id": "9", "label": "nowhere", "position": [1e9, 0, 0], "positionStatus": "preview"})
    controls.append({"id": "10", "label": "unset", "position": [0, 0, 0], "positionStatus": "undefined"})
    markup = {
        "type": "Fiducial",
        "coordinateSystem": system,
        "coordinateUnits": "mm",
        "locked": False,
        "controlPoints": controls,
        "measurements": [],
        "display": {"visibility": True, "opacity": 1.0},
    }
    path.write_text(json.dumps({"@schema": "https://example.org/markups-schema-v1.0.3.json#", "markups": [markup]}))
    return path


def slicer_fcsv(path: Path, points: Sequence[Sequence[float]], labels: Sequence[str], system: str = "LPS") -> Path:
    flip = -1 if system in ("RAS", "0") else 1
    lines = ["# Markups fiducial file version = 4.11", f"# CoordinateSystem = {system}"]
    lines.append("# columns = id,x,y,z,ow,ox,oy,oz,vis,sel,lock,label,desc,associatedNodeID")
    for count, ((x, y, z), label) in enumerate(zip(points, labels, strict=True)):
        lines.append(f"vtkMRMLMarkupsFiducialNode_{count},{flip * x!r},{flip * y!r},{z!r},0,0,0,1,1,1,0,{label},,")
    path.write_text("\n".join(lines) + "\n")
    return path


def napari_csv(path: Path, voxels: Sequence[Sequence[int]], labels: Sequence[str]) -> Path:
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["index", "axis-0", "axis-1", "axis-2", "label"])
        for count, ((x, y, z), label) in enumerate(zip(voxels, labels, strict=True)):
            writer.writerow([float(count), float(z), float(y), float(x), label])
    return path


def same_voxels(prompts: Sequence[Prompt], geometry: Geometry) -> list[tuple[int, int, int]]:
    """The voxels that clicks land in."""
    clicks = np.concatenate([prompt.clicks_mm for prompt in prompts])
    voxels = geometry.world_to_voxel(clicks)
    assert np.abs(voxels - np.rint(voxels)).max() < 1e-3, "beside the middle of a voxel"
    return [tuple(row) for row in np.rint(voxels).astype(int).tolist()]


@pytest.fixture(scope="session")
def tools() -> Any:
    """The functions and values above."""
    from types import SimpleNamespace

    return SimpleNamespace(
        VOXELS=VOXELS,
        NAMES=NAMES,
        directions=directions,
        slicer_json=slicer_json,
        slicer_fcsv=slicer_fcsv,
        napari_csv=napari_csv,
        same_voxels=same_voxels,
    )
