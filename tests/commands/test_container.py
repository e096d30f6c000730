"""A challenge's container, from a made folder to the label map that the challenge looks for."""

import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from moe_pipeline.commands.container import predict_container
from moe_pipeline.errors import PipelineError
from moe_pipeline.inference.keywords import predict_options
from moe_pipeline.model.sam.foundation import SamFoundation
from moe_pipeline.records.foundation import View
from moe_pipeline.workspace import Workspace
from tests.phantoms.foundations import save_tiny
from tests.phantoms.images import write_file

OVERLAY = Path("images") / "neuroblastoma-segmentation" / "overlay.mha"
SPACING, ORIGIN = (0.9, 1.1, 3.0), (-20.0, 14.0, 5.0)
DIRECTION = (0.0, 0.0, -1.0, 1.0, 0.0, 0.0, 0.0, -1.0, 0.0)  # coronal slices
CLICKS = {"neuroblastoma": (10, 12, 6), "kidney": (17, 20, 9)}


@pytest.fixture
def place(tmp_path: Path, tiny_foundation: SamFoundation) -> Workspace:
    place = Workspace(tmp_path / "ws")
    save_tiny(tiny_foundation, place.weights, View(spacing_mm=1.5, size_voxels=16, normalisation="zscore_clipped"))
    return place


@pytest.fixture
def given(tmp_path: Path) -> Path:
    """What is handed over: the T1 and other sequences of one visit on grids of their own, and clicks on the T1."""
    random = np.random.default_rng(0)
    sequences = {"t1": (20, 26, 14), "t2": (9, 8, 7), "b0": (5, 6, 7), "b100": (5, 6, 7)}
    for name, shape in sequences.items():
        image = random.normal(100, 20, shape).astype(np.float32)
        folder = tmp_path / "input" / "images" / f"abdominal-mr_{name}"
        write_file(folder / f"PT7_visit_1_{name}.mha", image, SPACING, ORIGIN, DIRECTION)
    objects = [
        {"class_id": number, "class_name": name, "points": [place], "labels": [1]}
        for number, (name, place) in enumerate(CLICKS.items(), start=4)
    ]
    content = {"schema_version": 1, "space": "voxel_xyz", "cases": {"PT7_visit_1_t1": objects}}
    (tmp_path / "prompts.json").write_text(json.dumps(content))
    return tmp_path / "input"


def test_the_overlay_is_the_tumour_alone_on_the_grid_of_the_t1(place: Workspace, given: Path, tmp_path: Path) -> None:
    out = tmp_path / "output"
    options = predict_options(given, out, foundation="tiny", prompts=tmp_path / "prompts.json", max_crops=1)
    report = predict_container(place, options, "sppin2023")
    assert not report.failed
    overlay, t1 = (
        sitk.ReadImage(str(path))
        for path in (out / OVERLAY, given / "images" / "abdominal-mr_t1" / "PT7_visit_1_t1.mha")
    )
    for of in ("GetSize", "GetSpacing", "GetOrigin", "GetDirection"):
        assert getattr(overlay, of)() == pytest.approx(getattr(t1, of)())
    labels = sitk.GetArrayFromImage(sitk.ReadImage(str(out / "PT7_visit_1_t1.nii.gz")))
    assert set(np.unique(labels)) == {0, 4, 5}
    np.testing.assert_array_equal(sitk.GetArrayFromImage(overlay), labels == 4)
    written = (out / OVERLAY).stat().st_mtime_ns
    assert "1 finished before" in predict_container(place, options, "sppin2023").text  # and the overlay is made anew
    assert (out / OVERLAY).stat().st_mtime_ns >= written


def test_what_a_container_cannot_do_is_said(place: Workspace, given: Path, tmp_path: Path) -> None:
    options = predict_options(given, tmp_path / "output", foundation="tiny", prompts=tmp_path / "prompts.json")
    with pytest.raises(PipelineError, match="no container layout of 'cvpr25' is known; there are: sppin2023"):
        predict_container(place, options, "cvpr25")
    (tmp_path / "prompts.json").write_text(
        (tmp_path / "prompts.json").read_text().replace('"neuroblastoma"', '"tumour"')
    )
    with pytest.raises(PipelineError, match="looks for the class neuroblastoma; asked for was kidney, tumour"):
        predict_container(place, options, "sppin2023")
    folder = given / "images" / "abdominal-mr_t1"
    write_file(folder / "another.mha", np.zeros((4, 4, 4), np.float32))
    with pytest.raises(PipelineError, match=r"exactly one image there, found PT7_visit_1_t1\.mha, another\.mha"):
        predict_container(place, options, "sppin2023")
