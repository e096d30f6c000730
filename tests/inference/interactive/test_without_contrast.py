"""Where an image shows nothing, nothing is found in it; and two objects of a class are two."""

import numpy as np
import pytest
import torch

from moe_pipeline.errors import ImageError
from moe_pipeline.imaging.geometry import Geometry
from moe_pipeline.imaging.volume import Volume
from moe_pipeline.inference.interactive.request import PromptRequest
from moe_pipeline.inference.interactive.segment_case import CaseResult, segment_case
from moe_pipeline.mixture.model import Mixture
from moe_pipeline.model.sam.foundation import SamFoundation
from moe_pipeline.prompts.prompt import Prompt
from moe_pipeline.records.foundation import View

VIEW = View(spacing_mm=1.0, size_voxels=16, normalisation="zscore_clipped")
GRID = Geometry((48, 20, 20), (1.0, 1.0, 1.0))


@pytest.fixture
def general(tiny_foundation: SamFoundation) -> Mixture:
    device = torch.device("cpu")
    return Mixture(tiny_foundation, VIEW, (), router=None, tau=0.0, selector="general", device=device, hashes={})


def click(place: tuple[int, int, int], class_id: int = 1) -> Prompt:
    mm = GRID.voxel_to_world(np.array([place], dtype=float))
    return Prompt(class_id, f"class {class_id}", mm, np.array([1]), "prompts")


def predict(model: Mixture, array: np.ndarray, *prompts: Prompt) -> CaseResult:
    return segment_case(model, PromptRequest("case", Volume(array.astype(np.float32), GRID), prompts))


@pytest.mark.parametrize("value", [0, 7, -1024, 1e6])
def test_an_image_without_contrast_is_refused(general: Mixture, value: float) -> None:
    with pytest.raises(ImageError, match=r"case: all voxels are .*: an image without contrast"):
        predict(general, np.full(GRID.shape, value), click((8, 8, 8)))


def test_a_click_where_there_is_no_contrast_finds_nothing(general: Mixture) -> None:
    array = np.zeros(GRID.shape)
    array[:10] = np.random.default_rng(0).normal(100, 20, array[:10].shape)
    result = predict(general, array, click((5, 10, 10), 1), click((40, 10, 10), 2))
    first, second = result.rows
    assert first.status in ("ok", "absent")
    assert "contrast" not in first.message
    assert second.status == "absent"
    assert "no contrast around the clicks" in second.message
    assert not (result.labels.array == 2).any()


def two_balls() -> np.ndarray:
    x, y, z = np.indices(GRID.shape)
    array = np.zeros(GRID.shape)
    for centre, radius in ((10, 6), (36, 4)):
        array[(x - centre) ** 2 + (y - 10) ** 2 + (z - 10) ** 2 <= radius**2] = 100
    return array


def test_two_objects_of_a_class_have_each_their_own_volume(follower: Mixture) -> None:
    array = two_balls()
    result = predict(follower, array, click((10, 10, 10)), click((36, 10, 10)))
    large, small = (row.volume_ml or 0 for row in result.rows)
    left, right = (result.labels.array[part] == 1 for part in (slice(0, 24), slice(24, None)))
    assert large == pytest.approx(left.sum() / 1000, abs=1e-4)
    assert small == pytest.approx(right.sum() / 1000, abs=1e-4)
    assert large > 2 * small > 0
    (alone,) = predict(follower, array, click((36, 10, 10))).rows
    assert alone.volume_ml == small


def test_an_object_that_lies_in_another_one_is_absent_and_counted_once(follower: Mixture) -> None:
    result = predict(follower, two_balls(), click((10, 10, 10)), click((11, 10, 10)))
    first, second = result.rows
    assert (first.status, second.status, second.volume_ml) == ("ok", "absent", 0)
    assert first.volume_ml == pytest.approx((result.labels.array == 1).sum() / 1000, abs=1e-4)


def test_more_objects_than_a_byte_counts(follower: Mixture) -> None:
    prompts = [click((10, 10, 10), 2)] * 300 + [click((36, 10, 10), 5)]
    result = predict(follower, two_balls(), *prompts)
    assert sorted(np.unique(result.labels.array).tolist()) == [0, 2, 5]
    assert [row.status for row in result.rows].count("ok") == 2
