"""Damaged files of prompts: refused with a reason, or read as they were meant, never something in between."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk

from moe_pipeline.errors import PipelineError, PromptError
from moe_pipeline.prompts.class_ids import ClassTable
from moe_pipeline.prompts.read import PromptSet, read_prompts

N_DAMAGED = 150
MEANT = [(1, "liver", ((1.0, 2.0, 3.0), (4.0, 5.0, 6.0)), (1, 0)), (7, "spleen", ((2.0, 3.0, 4.0),), (1,))]
PLACES = ((1, 2, 3), (4, 5, 6), (2, 3, 4))
NAMES = ("1 liver", "1 liver neg", "7 spleen")


def napari(path: Path) -> None:
    rows = [f'{n},{x},{y},{z},"{name}"' for n, ((x, y, z), name) in enumerate(zip(PLACES, NAMES, strict=True))]
    path.write_text("\n".join(["index,axis-0,axis-1,axis-2,label", *rows]) + "\n")


def fcsv(path: Path) -> None:
    lines = ["# Markups fiducial file version = 4.11", "# CoordinateSystem = LPS"]
    lines += [f"{n},{x},{y},{z},0,0,0,1,1,1,0,{NAMES[n]},,node" for n, (x, y, z) in enumerate(PLACES)]
    path.write_text("\n".join(lines) + "\n")


def slicer(path: Path) -> None:
    points = [{"label": name, "position": place} for place, name in zip(PLACES, NAMES, strict=True)]
    markup = {"type": "Fiducial", "coordinateSystem": "LPS", "coordinateUnits": "mm", "controlPoints": points}
    path.write_text(json.dumps({"markups": [markup]}))


def ours(path: Path) -> None:
    keys = ("class_id", "class_name", "points", "labels")
    objects = [dict(zip(keys, meant, strict=True)) for meant in MEANT]
    path.write_text(json.dumps({"space": "world_lps_mm", "cases": {"a": objects}}))


def archive(path: Path) -> None:
    liver = {"fg": [[1, 2, 3]], "bg": [[4, 5, 6]]}
    empty: dict[str, list[Any]] = {"fg": [], "bg": []}
    np.savez(path, clicks=np.array([liver, *[empty] * 5, {"fg": [[2, 3, 4]], "bg": []}], dtype=object))


WRITERS: dict[str, Callable[[Path], None]] = {
    "a.csv": napari,
    "a.fcsv": fcsv,
    "a.mrk.json": slicer,
    "a.json": ours,
    "a.npz": archive,
}


def objects(found: PromptSet) -> list[Any]:
    return [(one.class_id, one.class_name, one.points, one.labels) for one in found.given("a").objects]


@pytest.mark.parametrize("name", WRITERS)
def test_the_sweeps_begin_with_whole_files(name: str, tmp_path: Path) -> None:
    WRITERS[name](tmp_path / name)
    meant = [(class_id, "" if name == "a.npz" else title, *rest) for class_id, title, *rest in MEANT]
    assert objects(read_prompts(tmp_path)) == meant


@pytest.mark.parametrize("name", WRITERS)
def test_random_damage_never_ends_in_anything_but_a_reason(name: str, tmp_path: Path) -> None:
    WRITERS[name](tmp_path / name)
    whole = (tmp_path / name).read_bytes()
    random = np.random.default_rng(0)
    n_refused = 0
    for _ in range(N_DAMAGED):
        damaged = bytearray(whole)
        for place in random.integers(0, len(whole), random.integers(1, 6)):
            damaged[place] = random.integers(0, 256)
        if random.random() < 0.3:
            del damaged[random.integers(0, len(damaged)) :]
        (tmp_path / name).write_bytes(damaged)
        try:
            read_prompts(tmp_path).given("a")
        except PipelineError:
            n_refused += 1
    assert n_refused > N_DAMAGED / 4


@pytest.mark.parametrize("name", ["a.csv", "a.fcsv", "a.mrk.json", "a.json"])
def test_a_lost_separator_never_moves_a_click(name: str, tmp_path: Path) -> None:
    WRITERS[name](tmp_path / name)
    whole = (tmp_path / name).read_text()
    meant = {place for _, _, points, _ in MEANT for place in points}
    for place, letter in enumerate(whole):
        if letter not in ',\n[]{}":':
            continue
        (tmp_path / name).write_text(whole[:place] + whole[place + 1 :])
        try:
            found = objects(read_prompts(tmp_path))
        except PipelineError:
            continue
        clicks = {point for _, _, points, _ in found for point in points}
        assert clicks == meant, whole[max(place - 30, 0) : place + 30]


@pytest.mark.parametrize("name", ["a.mrk.json", "a.json", "a.npz"])
def test_a_file_that_is_cut_off_is_refused(name: str, tmp_path: Path) -> None:
    WRITERS[name](tmp_path / name)
    whole = (tmp_path / name).read_bytes()
    for length in range(0, len(whole.rstrip()), 7):
        (tmp_path / name).write_bytes(whole[:length])
        with pytest.raises(PromptError):
            read_prompts(tmp_path).given("a")


@pytest.mark.parametrize(
    "bad", [b"", b"{", b"\x00" * 50, b'{"markups": [{"type": "Fiducial", "coordinateUnits": []}]}']
)
@pytest.mark.parametrize("name", ["b.csv", "b.fcsv", "b.mrk.json", "b.json", "b.npz", "b.nii.gz"])
def test_a_broken_file_costs_its_own_case(name: str, bad: bytes, tmp_path: Path) -> None:
    slicer(tmp_path / "a.mrk.json")
    (tmp_path / name).write_bytes(bad)
    found = read_prompts(tmp_path, ["a", "b"])
    assert objects(found) == [tuple(meant) for meant in MEANT]
    with pytest.raises(PipelineError, match=r"b\."):
        found.given("b")


def test_what_nobody_foresaw_is_kept_until_its_case_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slicer(tmp_path / "a.mrk.json")
    fcsv(tmp_path / "b.fcsv")
    monkeypatch.setattr("moe_pipeline.prompts.formats.slicer_fcsv.same_length", lambda *_: [][0])
    found = read_prompts(tmp_path, ["a", "b"])
    assert objects(found) == [tuple(meant) for meant in MEANT]
    with pytest.raises(IndexError):
        found.given("b")


def test_a_fault_in_one_case_of_prompts_json_costs_that_case(tmp_path: Path) -> None:
    good = {"class_id": 1, "points": [[1, 2, 3]], "labels": [1]}
    cases = {"a": [good], "b": [{**good, "labels": [2]}], "c": [{**good, "class_id": True}], "d": [good, "x"]}
    both = {**good, "points": [[1, 2, 3]] * 2, "labels": [1, 0]}
    (tmp_path / "p.json").write_text(json.dumps({"space": "voxel_xyz", "cases": {**cases, "e": [both]}}))
    found = read_prompts(tmp_path / "p.json")
    assert len(found.given("a").objects) == 1
    reasons = {"b": r"b: 0\.labels", "c": "found True", "d": "d: 1:", "e": r"\(1\.0, 2\.0, 3\.0\) is labelled both"}
    for case, reason in reasons.items():
        with pytest.raises(PromptError, match=reason):
            found.given(case)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"space": "voxel_xyz", "cases": {"a": [], "a": []}}', "the key 'a' comes twice"),
        ('{"space": "voxel_xyz", "space": "array_zyx", "cases": {}}', "the key 'space' comes twice"),
        ('{"space": "world_ras_mm", "cases": {}}', "space: Input should be"),
        ('{"space": "voxel_xyz", "cases": {}, "schema_version": 2}', "schema_version"),
        ('{"space": "voxel_xyz", "cases": [1]}', "cases: Input should be a valid dictionary"),
        ('{"space": "voxel_xyz", "cases": {}, "author": "x"}', "author: Extra inputs"),
    ],
)
def test_a_file_of_prompts_that_contradicts_itself_is_refused(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "p.json").write_text(text)
    with pytest.raises(PromptError, match=message):
        read_prompts(tmp_path / "p.json")


@pytest.mark.parametrize("coding", ["utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("name", ["a.mrk.json", "a.json"])
def test_json_may_have_a_byte_order_mark(name: str, coding: str, tmp_path: Path) -> None:
    WRITERS[name](tmp_path / name)
    (tmp_path / name).write_bytes((tmp_path / name).read_text().encode(coding))
    assert objects(read_prompts(tmp_path / name)) == [tuple(meant) for meant in MEANT]


def write_image(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(exist_ok=True)
    sitk.WriteImage(sitk.GetImageFromArray(array), str(path))


def test_prompts_may_lie_beside_their_images(tmp_path: Path) -> None:
    for case in "ab":
        write_image(tmp_path / f"{case}.nii.gz", np.zeros((4, 5, 6), np.uint8))
    slicer(tmp_path / "a.mrk.json")
    (tmp_path / "a.json").write_text('{"RepetitionTime": 2.0}')  # a sidecar of BIDS
    found = read_prompts(tmp_path, ["a", "b"], tmp_path)
    assert objects(found) == [tuple(meant) for meant in MEANT]
    with pytest.raises(PromptError, match=r"b: no prompts in .*a\.json: neither prompts\.json"):
        found.given("b")
    (tmp_path / "a.mrk.json").unlink()
    with pytest.raises(PromptError, match="found only the images themselves"):
        read_prompts(tmp_path, ["a", "b"], tmp_path)


def test_an_image_is_not_taken_for_a_label_map(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    write_image(tmp_path / "masks" / "a.nii.gz", random.normal(90, 20, (12, 14, 16)).clip(0, 255).astype(np.uint8))
    blocks = np.kron(np.arange(1, 28).reshape(3, 3, 3), np.ones((4, 5, 6))).astype(np.uint8)  # 27 classes
    write_image(tmp_path / "masks" / "b.nii.gz", blocks)
    found = read_prompts(tmp_path / "masks", ["a", "b"])
    with pytest.raises(PromptError, match=r"a\.nii\.gz: \d+ values, .* intensities, not labels"):
        found.given("a")
    assert len(found.given("b").objects) == 27


def test_label_maps_beside_a_table_that_contradicts_the_model_are_refused(tmp_path: Path) -> None:
    write_image(tmp_path / "masks" / "a.nii.gz", np.ones((4, 5, 6), np.uint8))
    (tmp_path / "dataset.json").write_text('{"labels": {"1": "Posterior"}}')
    model = ClassTable("the expert Hippo", {1: "Anterior", 2: "Posterior"})
    assert read_prompts(tmp_path / "masks").given("a").objects[0].class_name == "Posterior"
    with pytest.raises(PromptError, match="says 1 for 'Posterior', but the expert Hippo has 2 Posterior"):
        read_prompts(tmp_path / "masks", tables=[model]).given("a")


def test_prompts_that_no_image_is_there_for_are_known(tmp_path: Path) -> None:
    slicer(tmp_path / "a.mrk.json")
    slicer(tmp_path / "F.mrk.json")
    assert read_prompts(tmp_path, ["a", "b"]).without_image(["a", "b"]) == ["F"]
