import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk

import moe_pipeline
from moe_pipeline.commands.predict import PredictOptions, predict_and_score
from moe_pipeline.errors import GeometryError, ImageError, PipelineError, PromptError
from moe_pipeline.imaging.geometry import Geometry
from moe_pipeline.imaging.io.files import read_label_map, write_image
from moe_pipeline.imaging.io.native import read_native
from moe_pipeline.imaging.itk import image_from_volume
from moe_pipeline.imaging.volume import Volume, to_canonical
from moe_pipeline.inference.api import Model
from moe_pipeline.mixture.model import Mixture
from moe_pipeline.records.prompts import ObjectPrompt
from moe_pipeline.workspace import Workspace

NATIVE = Geometry((20, 24, 18), (1.5, 1.0, 2.5), (10.0, 5.0, 3.0), (-1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0))
CLICK = (10, 12, 8)


@pytest.fixture
def image() -> Volume:
    bright = np.zeros(NATIVE.shape, np.float32)
    bright[6:14, 8:16, 5:12] = 100.0
    return Volume(bright, NATIVE)


def test_every_form_of_an_image_gives_the_same_labels(follower: Mixture, image: Volume, tmp_path: Path) -> None:
    model = Model(follower)
    write_image(to_canonical(image), tmp_path / "scan.nii.gz", NATIVE)
    expected = model.predict(image, [CLICK])
    assert expected.labels.array[CLICK] == 1
    assert expected.labels.geometry == NATIVE
    assert expected.rows[0].volume_ml == pytest.approx((expected.labels.array == 1).sum() * NATIVE.voxel_ml, abs=1e-4)
    for form in (tmp_path / "scan.nii.gz", str(tmp_path / "scan.nii.gz"), image_from_volume(image)):
        found = model.predict(form, [CLICK])
        assert np.array_equal(found.labels.array, expected.labels.array)
    bare = model.predict(image.array.astype(np.int16), [CLICK], spacing_mm=NATIVE.spacing_mm)
    assert bare.labels.array[CLICK] == 1
    assert bare.labels.array.shape == image.array.shape


def test_every_form_of_a_click_gives_the_same_labels(follower: Mixture, image: Volume, tmp_path: Path) -> None:
    model = Model(follower)
    record = {"class_id": 1, "points": [CLICK], "labels": [1]}
    (tmp_path / "clicks.json").write_text(
        '{"space": "array_zyx", "cases": {"image": [{"class_id": 1, "points": [[8, 12, 10]], "labels": [1]}]}}'
    )
    x, y, z = (float(value) for value in NATIVE.voxel_to_world(np.array([CLICK], float))[0])
    expected = model.predict(image, [CLICK]).labels.array
    assert 0 < expected.sum() < expected.size
    for prompts in ([record], [ObjectPrompt.model_validate(record)], tmp_path / "clicks.json"):
        assert np.array_equal(model.predict(image, prompts).labels.array, expected)
    assert np.array_equal(model.predict(image, [(-x, -y, z)], space="world_lps_mm").labels.array, expected)


def test_what_is_saved_is_what_was_found(follower: Mixture, image: Volume, tmp_path: Path) -> None:
    prediction = Model(follower).predict(image, [{"class_id": 300, "points": [CLICK], "labels": [1]}])
    prediction.save(tmp_path / "mask.nii.gz")
    assert prediction.labels.array.dtype == np.uint16
    assert np.array_equal(read_native(tmp_path / "mask.nii.gz").array, prediction.labels.array)
    assert prediction.as_sitk().GetPixel(CLICK) == 300


@pytest.mark.parametrize(
    ("given", "options", "error", "message"),
    [
        (np.zeros((4, 5, 6)), {}, ImageError, "spacing_mm"),
        (np.zeros((4, 5)), {"spacing_mm": (1, 1, 1)}, ImageError, r"\(4, 5\)"),
        (np.zeros((4, 5, 6)), {"spacing_mm": (1, 1)}, ImageError, "three numbers"),
        (np.zeros((4, 5, 6)), {"spacing_mm": (1, 0, 1)}, GeometryError, "positive"),
        (np.full((4, 5, 6), np.nan), {"spacing_mm": (1, 1, 1)}, ImageError, "120 voxels are NaN"),
        (sitk.Image([4, 5], sitk.sitkInt16), {}, ImageError, "found 2D"),
        ("nowhere.nii.gz", {}, ImageError, "no such file"),
    ],
)
def test_an_image_that_is_none_is_refused(
    follower: Mixture, given: Any, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        Model(follower).predict(given, [(1, 1, 1)], **options)


@pytest.mark.parametrize(
    ("prompts", "message"),
    [
        ([], "no prompts"),
        ([(99, 1, 1)], "outside the image"),
        ([(1, 1)], "expected clicks"),
        ([{"class_id": 1, "points": [(1, 1, 1)]}], "expected clicks"),
        ([(1, 1, 1), {"class_id": 1}], "expected clicks"),
        (None, "no expert of this model can propose"),
    ],
)
def test_prompts_that_do_not_fit_are_refused(
    follower: Mixture, image: Volume, prompts: list[object] | None, message: str
) -> None:
    with pytest.raises(PromptError, match=message):
        Model(follower).predict(image, prompts)


def test_python_and_the_command_say_the_same(trained_workspace: Workspace, tmp_path: Path) -> None:
    place = trained_workspace
    images = next(place.raw_root.iterdir()) / "imagesTr"
    path = sorted(images.iterdir())[0]
    case = path.name.removesuffix("_0000.nii.gz")
    x, y, z = (side // 2 for side in read_native(path).geometry.shape)
    clicks = tmp_path / "prompts.json"
    prompt = {"class_id": 1, "points": [[x, y, z]], "labels": [1]}
    clicks.write_text(json.dumps({"space": "voxel_xyz", "cases": {case: [prompt]}}))
    predict_and_score(place, PredictOptions(images, tmp_path / "out", prompts=clicks))
    model = moe_pipeline.load_model(place.model, weights_root=place.weights)
    assert len(model.experts) > 0
    found = model.predict(path, [(x, y, z)])
    written = read_label_map(tmp_path / "out" / f"{case}.nii.gz")
    assert np.array_equal(to_canonical(found.labels).array, written.array)


def test_a_foundation_alone_needs_no_folder() -> None:
    model = moe_pipeline.load_model(foundation="nano")
    assert model.experts == ()
    with pytest.raises(PipelineError, match="give a model folder or a foundation"):
        moe_pipeline.load_model()


def test_importing_the_package_loads_nothing_heavy() -> None:
    program = "import sys, moe_pipeline; print(sorted({'torch', 'numpy', 'SimpleITK', 'pydantic'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, encoding="utf-8", check=True)
    assert done.stdout.strip() == "[]"
