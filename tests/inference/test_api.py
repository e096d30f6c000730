import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk

import moe_pipeline
from moe_pipeline.commands.predict import predict_and_score
from moe_pipeline.errors import GeometryError, ImageError, PipelineError, PromptError
from moe_pipeline.imaging.geometry import Geometry
from moe_pipeline.imaging.io.files import read_label_map, write_image
from moe_pipeline.imaging.io.native import read_native
from moe_pipeline.imaging.itk import image_from_volume
from moe_pipeline.imaging.volume import Volume, to_canonical
from moe_pipeline.inference.api import Predictor
from moe_pipeline.inference.keywords import predict_options
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
    model = Predictor(follower)
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
    model = Predictor(follower)
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
    prediction = Predictor(follower).predict(image, [{"class_id": 300, "points": [CLICK], "labels": [1]}])
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
        (
            np.zeros((4, 5, 6)),
            {"spacing_mm": "close"},
            ImageError,
            "spacing_mm: expected three numbers .* found 'close'",
        ),
        (np.zeros((4, 5, 6)), {"spacing_mm": 1.5}, ImageError, "spacing_mm: expected three numbers .* found 1.5"),
        (np.zeros((4, 5, 6)), {"spacing_mm": (1, 0, 1)}, GeometryError, "spacing_mm: .*all positive, found"),
        (np.zeros((4, 5, 6)), {"spacing_mm": (1, np.nan, 1)}, GeometryError, "spacing_mm: .*all positive, found"),
        (np.zeros((4, 5, 6)), {"spacing_mm": (1, -1, 1)}, GeometryError, "spacing_mm: .*all positive, found"),
        (sitk.Image([4, 5, 6], sitk.sitkInt16), {"spacing_mm": (1, 1, 1)}, ImageError, "only an array needs one"),
        (None, {}, ImageError, "image: expected a path, a Volume, .* found NoneType"),
        (["one.nii.gz", "two.nii.gz"], {}, ImageError, "image: expected a path, .* found list"),
        (np.zeros((4, 5, 6), complex), {}, ImageError, "found ndarray complex128"),
        ("", {}, PipelineError, "image: expected a path, found str ''"),
        (np.full((4, 5, 6), np.nan), {"spacing_mm": (1, 1, 1)}, ImageError, "120 voxels are NaN"),
        (sitk.Image([4, 5], sitk.sitkInt16), {}, ImageError, "found 2D"),
        ("nowhere.nii.gz", {}, ImageError, "no such file"),
    ],
)
def test_an_image_that_is_none_is_refused(
    follower: Mixture, given: Any, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        Predictor(follower).predict(given, [(1, 1, 1)], **options)


@pytest.mark.parametrize(
    ("prompts", "message"),
    [
        ([], "no prompts"),
        ([(99, 1, 1)], "outside the image"),
        ([(1, 1)], r"prompts: expected clicks .* shape \(1, 2\)"),
        ((1, 1, 1), r"prompts: expected clicks .* shape \(3,\)"),
        (np.ones((1, 1, 3)), r"prompts: expected clicks .* shape \(1, 1, 3\)"),
        ([("a", "b", "c")], "prompts: expected clicks"),
        ([(1, 1, np.nan)], "prompts: expected clicks .* points.0.2: Input should be a finite number"),
        (7, "prompts: expected clicks .* found int 7"),
        ({"class_id": 0, "points": [(1, 1, 1)], "labels": [1]}, "class_id: Input should be greater than or equal to 1"),
        ({"class_id": 1, "points": [(1, 1, 1)], "labels": [2]}, "labels.0: Input should be 0 or 1"),
        ([{"class": 1}], "class: Extra inputs are not permitted"),
        ([{"class_id": 1, "points": [(1, 1, 1)]}], "expected clicks"),
        ([(1, 1, 1), {"class_id": 1}], "expected clicks"),
        (None, "no expert of this model can propose"),
    ],
)
def test_prompts_that_do_not_fit_are_refused(follower: Mixture, image: Volume, prompts: object, message: str) -> None:
    with pytest.raises(PromptError, match=message):
        Predictor(follower).predict(image, prompts)


def test_python_and_the_command_say_the_same(trained_workspace: Workspace, tmp_path: Path) -> None:
    place = trained_workspace
    images = next(place.raw_root.iterdir()) / "imagesTr"
    path = sorted(images.iterdir())[0]
    case = path.name.removesuffix("_0000.nii.gz")
    x, y, z = (side // 2 for side in read_native(path).geometry.shape)
    clicks = tmp_path / "prompts.json"
    prompt = {"class_id": 1, "points": [[x, y, z]], "labels": [1]}
    clicks.write_text(json.dumps({"space": "voxel_xyz", "cases": {case: [prompt]}}))
    predict_and_score(place, predict_options(images, tmp_path / "out", prompts=clicks))
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


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"space": "voxel_zyx"}, "space: no space 'voxel_zyx'; there are: world_lps_mm, voxel_xyz, array_zyx"),
        ({"space": None}, "space: no space None"),
        ({"uncertainty": "yes"}, "uncertainty: expected True or False, found str 'yes'"),
        ({"classes": "liver"}, "classes and experts say what to search for"),
        ({"experts": [None]}, "experts: expected names or numbers, found list"),
    ],
)
def test_an_option_that_is_none_is_refused(
    follower: Mixture, image: Volume, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(PipelineError, match=message):
        Predictor(follower).predict(image, [CLICK], **options)


def test_one_prompt_alone_and_an_array_of_clicks_are_prompts_too(follower: Mixture, image: Volume) -> None:
    expected = Predictor(follower).predict(image, [CLICK]).labels.array
    record = {"class_id": 1, "points": [CLICK], "labels": [1]}
    for prompts in (record, ObjectPrompt.model_validate(record), np.array([CLICK])):
        assert np.array_equal(Predictor(follower).predict(image, prompts).labels.array, expected)


def test_doubt_is_shown_where_it_is_asked_for(follower: Mixture, image: Volume) -> None:
    assert Predictor(follower).predict(image, [CLICK]).result.uncertainty is None
    found = Predictor(follower).predict(image, [CLICK], uncertainty=True).result.uncertainty
    assert found is not None
    assert found.array.any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"folder": "nowhere"}, "folder: nowhere: no such folder; expected a model folder with moe.json"),
        ({"folder": 5}, "folder: expected a path, found int 5"),
        ({"foundation": "nano", "tua": 0.5}, "load_model: no argument 'tua'; there are: foundation, selector, tau"),
        ({"foundation": "nano", "tau": 0.5}, "a foundation alone has no tau"),
        ({"foundation": "nano", "folder": "."}, "a foundation alone has no model"),
        ({"foundation": "nano", "device": "gpu0"}, "no device 'gpu0'; there are: cpu"),
        ({"foundation": "nano", "max_crops": "many"}, "max_crops: expected a whole number, found str 'many'"),
        ({"foundation": "nano", "weights_root": 1}, "weights_root: expected a path, found int 1"),
        ({"foundation": "micro"}, "micro"),
    ],
)
def test_a_model_that_cannot_be_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(PipelineError, match=message):
        moe_pipeline.load_model(**options)


def test_an_imported_foundation_is_found_beside_the_model_folder(trained_workspace: Workspace, tmp_path: Path) -> None:
    assert len(moe_pipeline.load_model(trained_workspace.model).experts) == 2
    with pytest.raises(PipelineError, match="no foundation 'tiny'"):
        moe_pipeline.load_model(trained_workspace.model, weights_root=tmp_path)
