"""From real files of each format to voxels, over all orientations."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk

from moe_pipeline.errors import PromptError
from moe_pipeline.prompts.read import read_prompts
from moe_pipeline.records.prompts import ObjectPrompt, PromptFile


def ours(path: Path, space: Any, points: list[Any]) -> Path:
    liver = ObjectPrompt(class_id=1, class_name="liver", points=points[:2], labels=(1, 0))
    spleen = ObjectPrompt(class_id=7, class_name="spleen", points=points[2:], labels=(1,))
    PromptFile(space=space, cases={"scan": (liver, spleen)}).save(path)
    return path


def every_format(folder: Path, scan: Any, tools: Any) -> list[Path]:
    places = [scan.lps(voxel) for voxel in tools.VOXELS]
    folder.mkdir()
    files = []
    for system in ("LPS", "RAS"):
        files.append(tools.slicer_json(folder / f"{system}.mrk.json", places, tools.NAMES, system))
    for system in ("LPS", "RAS", "0", "1"):
        files.append(tools.slicer_fcsv(folder / f"{system}.fcsv", places, tools.NAMES, system))
    files.append(tools.napari_csv(folder / "points.csv", tools.VOXELS, tools.NAMES))
    files.append(ours(folder / "world.json", "world_lps_mm", places))
    files.append(ours(folder / "voxel.json", "voxel_xyz", list(tools.VOXELS)))
    files.append(ours(folder / "array.json", "array_zyx", [voxel[::-1] for voxel in tools.VOXELS]))
    clicks: list[dict[str, list[Any]]] = [{"fg": [[*tools.VOXELS[0][::-1]]], "bg": [[*tools.VOXELS[1][::-1]]]}]
    clicks += [{"fg": [], "bg": []}] * 5 + [{"fg": [[*tools.VOXELS[2][::-1]]], "bg": []}]
    np.savez(folder / "clicks.npz", clicks=np.array(clicks, dtype=object))
    return [*files, folder / "clicks.npz"]


@pytest.mark.parametrize("oblique", [False, True])
@pytest.mark.parametrize("number", range(48))
def test_a_click_lands_in_its_voxel_whatever_the_format_and_orientation(
    number: int, oblique: bool, write_scan: Callable[..., Any], tools: Any, tmp_path: Path
) -> None:
    scan = write_scan(tools.directions()[number], oblique=oblique)
    for file in every_format(tmp_path / "prompts", scan, tools):
        prompts = read_prompts(file, ["scan"]).of_case("scan", scan.geometry)
        assert tools.same_voxels(prompts, scan.geometry) == list(tools.VOXELS), file.name
        assert [prompt.class_id for prompt in prompts] == [1, 7], file.name
        assert [prompt.labels.tolist() for prompt in prompts] == [[1, 0], [1]], file.name


@pytest.mark.parametrize("ending", [".nii", ".nrrd", ".mha"])
def test_image_formats_agree(ending: str, write_scan: Callable[..., Any], tools: Any, tmp_path: Path) -> None:
    scan = write_scan(tools.directions()[13], oblique=True, ending=ending)
    for file in every_format(tmp_path / "prompts", scan, tools):
        prompts = read_prompts(file, ["scan"]).of_case("scan", scan.geometry)
        assert tools.same_voxels(prompts, scan.geometry) == list(tools.VOXELS), file.name


def test_a_folder_may_mix_formats_and_one_bad_file_costs_one_case(tmp_path: Path, tools: Any) -> None:
    tools.slicer_json(tmp_path / "a.mrk.json", [(1.0, 2.0, 3.0)], ["kidney-1"])
    tools.slicer_fcsv(tmp_path / "b_0000.fcsv", [(1.0, 2.0, 3.0)], ["adrenal"])
    tools.napari_csv(tmp_path / "c.csv", [(1, 2, 3)], ["kidney neg"])
    (tmp_path / "d.mrk.json").write_text("{")
    (tmp_path / "notes.txt").write_text("of no account")
    found = read_prompts(tmp_path, ["a", "b", "c", "d"])
    assert [(o.class_id, o.class_name) for o in found.given("a").objects] == [(2, "kidney")]
    assert [(o.class_id, o.class_name) for o in found.given("b").objects] == [(1, "adrenal")]
    with pytest.raises(PromptError, match=r"c\.csv: class 2 kidney: .*at least one click must lie inside"):
        found.given("c")
    with pytest.raises(PromptError, match=r"d\.mrk\.json: not JSON"):
        found.given("d")
    with pytest.raises(PromptError, match=r"e: no prompts in .* Add clicks for e"):
        found.given("e")


def test_a_dataset_json_numbers_the_classes(tmp_path: Path, tools: Any) -> None:
    (tmp_path / "dataset.json").write_text('{"labels": {"5": "kidney"}}')
    tools.slicer_json(tmp_path / "a.mrk.json", [(1.0, 2.0, 3.0)] * 3, ["kidney-1", "5", "adrenal-1"])
    objects = read_prompts(tmp_path).given("a").objects
    assert [(o.class_id, o.class_name, len(o.points)) for o in objects] == [(5, "kidney", 2), (1, "adrenal", 1)]


def test_several_objects_of_a_class(tmp_path: Path, tools: Any) -> None:
    labels = ["lesion#1-1", "lesion#2-1", "lesion#1 neg-2"]
    tools.slicer_json(tmp_path / "a.mrk.json", [(1.0, 2.0, 3.0), (1.0, 2.0, 4.0), (5.0, 2.0, 3.0)], labels)
    objects = read_prompts(tmp_path / "a.mrk.json").given("a").objects
    assert [(o.class_id, o.labels) for o in objects] == [(1, (1, 0)), (1, (1,))]


def test_two_files_for_a_case_cost_that_case(tmp_path: Path, tools: Any) -> None:
    tools.slicer_json(tmp_path / "a.mrk.json", [(1.0, 2.0, 3.0)], ["x"])
    tools.slicer_fcsv(tmp_path / "a.fcsv", [(1.0, 2.0, 3.0)], ["x"])
    tools.slicer_fcsv(tmp_path / "b.fcsv", [(1.0, 2.0, 3.0)], ["x"])
    found = read_prompts(tmp_path)
    with pytest.raises(PromptError, match=r"two files of prompts for the case a: a\.fcsv and a\.mrk\.json"):
        found.given("a")
    assert [one.class_name for one in found.given("b").objects] == ["x"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", "x", r"its ending is none of \.json"),
        ("a.json", "{", r"a\.json: not JSON"),
        ("a.json", "[]", r"neither prompts\.json .* nor markups"),
        ("a.mrk.json", '{"markups": [{"type": "Line"}]}', "a markup of type Line"),
        ("a.mrk.json", '{"markups": []}', "no defined point and no region of interest"),
        ("a.mrk.json", '{"markups": [{"type": "ROI", "coordinateSystem": "IJK"}]}', "coordinateSystem"),
        ("a.mrk.json", '{"markups": [{"type": "ROI", "coordinateUnits": "um"}]}', "coordinates in um, expected mm"),
        ("a.mrk.json", '{"markups": [{"type": "ROI"}]}', "a ROI without center and size"),
        ("a.fcsv", "1,2,3", "no point list of 3D Slicer 4 or later"),
        (
            "a.fcsv",
            "# Markups fiducial file version = 4.1\n# CoordinateSystem = IJK\n",
            "CoordinateSystem IJK; expected",
        ),
        ("a.fcsv", "# Markups fiducial file version = 4.1\n", "no defined point in it"),
        ("a.fcsv", "# Markups fiducial file version = 4.1\n0,1,nan,3,0,0,0,1,1,1,0,x,,\n", "point 1, y: .* finite"),
        ("a.csv", "axis-0,axis-1\n1,2\n", "expected columns axis-0, axis-1, axis-2, found axis-0, axis-1"),
        ("a.csv", "axis-0,axis-1,axis-2,axis-3\n1,2,3,4\n", "no points of a 3D layer"),
        ("a.csv", "axis-0,axis-1,axis-2\n", "no point in it"),
        ("a.csv", "axis-0,axis-1,axis-2\n1,two,3\n", "row 1, axis-1: expected a number such as 20.5, found 'two'"),
        ("a.csv", "axis-0,axis-1,axis-2\n1,2\n", "row 1: 2 cells for 3 columns"),
        ("a.npz", "no archive", "damaged or truncated archive"),
    ],
)
def test_wrong_files_are_refused_by_name(tmp_path: Path, name: str, content: str, message: str) -> None:
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(PromptError, match=message) as error:
        read_prompts(path)
    assert str(path) in str(error.value)


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(PromptError, match="no such file or folder of prompts"):
        read_prompts(tmp_path / "nothing")
    with pytest.raises(PromptError, match="no prompts in it; expected files that end in"):
        read_prompts(tmp_path)


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"axis-0,axis-1,axis-2\n\xff\xfe,2,3\n")
    with pytest.raises(PromptError, match=r"a\.csv: not a text file in UTF-8"):
        read_prompts(tmp_path / "a.csv")


def test_a_mask_gives_a_click_in_each_of_its_large_parts(write_scan: Callable[..., Any], tmp_path: Path) -> None:
    scan = write_scan()
    labels = np.zeros((5, 9, 7), np.uint8)  # (z, y, x)
    labels[0:3, 0:3, 0:3] = 4
    labels[0:3, 5:8, 0:3] = 4
    labels[4, 8, 6] = 4  # a crumb
    labels[4, 0, 6] = 2
    image = sitk.GetImageFromArray(labels)
    image.CopyInformation(scan.image)
    (tmp_path / "masks").mkdir()
    sitk.WriteImage(image, str(tmp_path / "masks" / "scan.nii.gz"))
    found = read_prompts(tmp_path / "masks", ["scan"])
    two, four = found.of_case("scan", scan.geometry)
    assert (two.class_id, four.class_id, four.source) == (2, 4, "mask")
    assert scan.geometry.world_to_voxel(two.clicks_mm).round(3).tolist() == [[6, 0, 4]]
    assert sorted(scan.geometry.world_to_voxel(four.clicks_mm).round(3).tolist()) == [[1, 1, 1], [1, 6, 1]]


def test_an_empty_mask_is_a_fault_of_its_case(write_scan: Callable[..., Any]) -> None:
    scan = write_scan()
    with pytest.raises(PromptError, match="the mask is empty"):
        read_prompts(scan.path).of_case("scan", scan.geometry)


def test_names_with_and_without_a_channel_are_matched(tmp_path: Path) -> None:
    ours(tmp_path / "p.json", "voxel_xyz", [(1, 2, 3), (2, 2, 3), (3, 2, 3)])
    assert read_prompts(tmp_path / "p.json", ["scan_0000", "other"]).given("scan_0000").objects
    text = (tmp_path / "p.json").read_text()
    (tmp_path / "p.json").write_text(text.replace('"scan"', '"scan_0000"'))
    assert read_prompts(tmp_path / "p.json", ["scan", "other"]).given("scan").objects
