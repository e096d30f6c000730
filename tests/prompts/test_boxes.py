"""Boxes: of 3D Slicer, of the challenge, and of our own file."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from moe_pipeline.errors import PromptError
from moe_pipeline.prompts.read import read_prompts


def write_roi(path: Path, centre: list[float], size: list[float], axes: np.ndarray, system: str = "LPS") -> Path:
    roi = {
        "type": "ROI",
        "name": "2 tumour",
        "coordinateSystem": system,
        "coordinateUnits": ["mm", "UCUM", "millimeter"],
        "roiType": "Box",
        "center": centre,
        "orientation": axes.ravel().tolist(),
        "size": size,
        "insideOut": False,
        "controlPoints": [{"id": "1", "label": "R-1", "position": centre, "positionStatus": "defined"}],
    }
    path.write_text(json.dumps({"markups": [roi]}))
    return path


def test_a_roi_becomes_its_centre_and_its_corners(write_scan: Callable[..., Any], tmp_path: Path) -> None:
    scan = write_scan()
    centre = scan.lps((3, 4, 2))
    path = write_roi(tmp_path / "scan.mrk.json", centre, [1.4, 2.2, 5.2], np.eye(3))
    (prompt,) = read_prompts(path, ["scan"]).of_case("scan", scan.geometry)
    assert (prompt.class_id, prompt.class_name, prompt.labels.tolist()) == (2, "tumour", [1])
    assert scan.geometry.world_to_voxel(prompt.clicks_mm).round(6).tolist() == [[3, 4, 2]]
    voxels = scan.geometry.world_to_voxel(prompt.box_mm)
    assert voxels.shape == (8, 3)
    assert np.allclose(voxels.min(axis=0), (2, 3, 1))
    assert np.allclose(voxels.max(axis=0), (4, 5, 3))


def test_a_turned_roi_becomes_the_upright_box_around_it(tmp_path: Path) -> None:
    axes = np.array([[0.6, -0.8, 0], [0.8, 0.6, 0], [0, 0, 1]])
    path = write_roi(tmp_path / "a.mrk.json", [-10, -20, 30], [10, 0, 4], axes, "RAS")
    (prompt,) = read_prompts(path).given("a").objects
    assert np.allclose(prompt.box or (), [(7, 16, 28), (13, 24, 32)])  # 0.6 x 5 and 0.8 x 5 about (10, 20, 30) in LPS


def test_boxes_of_the_challenge(write_scan: Callable[..., Any], tmp_path: Path) -> None:
    scan = write_scan()
    box = {"z_min": 1, "z_max": 3, "z_mid": 2, "z_mid_x_min": 0, "z_mid_y_min": 4, "z_mid_x_max": 2, "z_mid_y_max": 8}
    clicks = [{"fg": [[np.int64(1), np.int64(5), np.int64(2)]], "bg": [[0, 0, 0]]}, {"fg": [], "bg": []}]
    rows = np.array([[0, 4, 1, 2, 8, 3], [0, 0, 0, 1, 1, 1]])
    np.savez(tmp_path / "2025.npz", boxes=np.array([box, box]), clicks=np.array(clicks), imgs=np.zeros((5, 9, 7)))
    np.savez(tmp_path / "2024.npz", boxes=rows)
    (one, two) = read_prompts(tmp_path / "2025.npz", ["scan"]).of_case("scan", scan.geometry)
    assert scan.geometry.world_to_voxel(one.clicks_mm).round(6).tolist() == [[2, 5, 1], [0, 0, 0]]  # of its clicks
    assert one.labels.tolist() == [1, 0]
    assert scan.geometry.world_to_voxel(two.clicks_mm).round(6).tolist() == [[1, 6, 2]]  # the centre of its box
    (older, _) = read_prompts(tmp_path / "2024.npz", ["scan"]).of_case("scan", scan.geometry)
    assert np.allclose(older.box_mm, two.box_mm)
    assert np.allclose(scan.geometry.world_to_voxel(older.box_mm).max(axis=0), (2, 8, 3))


def test_a_box_may_reach_beyond_the_image_but_not_its_centre(write_scan: Callable[..., Any], tmp_path: Path) -> None:
    scan = write_scan()
    near = write_roi(tmp_path / "near.mrk.json", scan.lps((0, 0, 0)), [9, 9, 9], np.eye(3))
    read_prompts(near, ["scan"]).of_case("scan", scan.geometry)
    far = write_roi(tmp_path / "far.mrk.json", scan.lps((-4, 0, 0)), [9, 9, 9], np.eye(3))
    with pytest.raises(PromptError, match="lies outside the image"):
        read_prompts(far, ["scan"]).of_case("scan", scan.geometry)


def test_two_boxes_of_an_object_are_refused(tmp_path: Path) -> None:
    one = json.loads(write_roi(tmp_path / "a.mrk.json", [0, 0, 0], [1, 1, 1], np.eye(3)).read_text())
    (tmp_path / "a.mrk.json").write_text(json.dumps({"markups": one["markups"] * 2}))
    with pytest.raises(PromptError, match="class 2 tumour: 2 boxes; an object has one"):
        read_prompts(tmp_path / "a.mrk.json")


BOX = [[1, 2, 1], [4, 6, 3]]  # of an image of 7 x 9 x 5 voxels


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"box": [[2, 3, 1], [2, 3, 1]]}, "a box without extent"),
        ({"box": [[50, 50, 50], [60, 60, 60]], "points": [[2, 3, 2]], "labels": [1]}, "its box lies outside the image"),
        ({"box": [[1, 2, 7], [4, 6, 9]]}, "its box lies outside the image"),
        (
            {"box": BOX, "points": [[6, 8, 4]], "labels": [1]},
            r"the click \(6.0, 8.0, 4.0\) lies inside the object, but not",
        ),
        ({"box": BOX, "points": [[2, 3, 2], [2, 3, 2]], "labels": [1, 0]}, "is labelled both 1 and 0"),
        ({"box": BOX, "points": [[6, 8, 4]], "labels": [0]}, ""),
        ({"box": BOX, "points": [[5, 7, 4]], "labels": [1]}, ""),
        ({"box": [[1, 2, 2], [4, 6, 2]], "points": [[2, 3, 4]], "labels": [1]}, ""),
        ({"box": [[-9, 2, 1], [4, 6, 3]], "points": [[2, 3, 2]], "labels": [1]}, ""),
    ],
)
def test_a_box_that_contradicts_its_image_or_its_clicks_is_refused(
    changes: dict[str, Any], message: str, write_scan: Callable[..., Any], tmp_path: Path
) -> None:
    scan = write_scan()
    path = tmp_path / "scan.json"
    path.write_text(json.dumps({"space": "voxel_xyz", "cases": {"scan": [{"class_id": 2, **changes}]}}))
    found = read_prompts(path, ["scan"])
    if not message:
        assert len(found.of_case("scan", scan.geometry)) == 1
        return
    with pytest.raises(PromptError, match=message):
        found.of_case("scan", scan.geometry)
