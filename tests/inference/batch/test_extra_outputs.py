from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from moe_pipeline.imaging.geometry import Geometry
from moe_pipeline.imaging.io.files import read_volume
from moe_pipeline.imaging.volume import Volume
from moe_pipeline.inference.batch.extra_outputs import ExtraOutputs
from moe_pipeline.inference.batch.resume import FINISHED
from moe_pipeline.inference.interactive.request import PromptRequest
from moe_pipeline.inference.interactive.segment_case import CaseResult, segment_case
from moe_pipeline.inference.options import OutputOptions, SegmentOptions
from moe_pipeline.journal.written import Written
from moe_pipeline.mixture.model import Expert, Mixture
from moe_pipeline.model.moe.selector import Route
from moe_pipeline.prompts.prompt import Prompt
from moe_pipeline.prompts.read import read_prompts
from tests.phantoms.foundations import decoder_of

NATIVE = Geometry((20, 24, 18), (1.5, 1.0, 2.5), (10.0, 5.0, 3.0), (-1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0))


@pytest.fixture
def image() -> Volume:
    grid = NATIVE.canonical()
    bright = np.zeros(grid.shape, np.float32)
    bright[6:14, 8:16, 5:12] = 100.0
    return Volume(bright, grid)


def ask(model: Mixture, image: Volume, *class_ids: int, **options: Any) -> CaseResult:
    click = image.geometry.voxel_to_world(np.array([[10.0, 12.0, 8.0]]))
    prompts = tuple(Prompt(class_id, "", click, np.array([1]), "prompts") for class_id in class_ids)
    return segment_case(model, PromptRequest("case", image, prompts), SegmentOptions(**options))


def test_nothing_is_kept_unless_asked_for(follower: Mixture, image: Volume) -> None:
    result = ask(follower, image, 3)
    assert result.answers == {}
    assert result.uncertainty is None


def test_probabilities_are_those_of_the_label_map(follower: Mixture, image: Volume) -> None:
    result = ask(follower, image, 3, keep_answers=True)
    probable = result.probability(3).array > 127
    assert probable.any()
    assert np.array_equal(probable, result.labels.array == 3)
    assert result.probability(3).array.max() == round(255 / (1 + np.exp(-4)))  # the decoder says 4


def test_maps_are_files_on_the_images_grid_and_go_with_it(follower: Mixture, image: Volume, tmp_path: Path) -> None:
    own, path = Written(tmp_path / FINISHED), tmp_path / "case.nii.gz"
    maps = ExtraOutputs(own, OutputOptions(out=tmp_path, save_probabilities=True, uncertainty=True))
    wanted = {"keep_answers": True, "uncertainty": True}
    maps.write(ask(follower, image, 3, 300, **wanted), "case", NATIVE, path)
    files = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.nii.gz")}
    assert files == {"probabilities/case/3.nii.gz", "probabilities/case/300.nii.gz", "uncertainty/case.nii.gz"}
    for file in files:
        volume = read_volume(tmp_path / file)
        assert not volume.geometry.differences(NATIVE.canonical())
        assert 0 <= volume.array.min() < volume.array.max() <= 1
    maps.write(ask(follower, image, 3, **wanted), "case", NATIVE, path)
    assert not (tmp_path / "probabilities/case/300.nii.gz").exists()
    ExtraOutputs(own, OutputOptions(out=tmp_path)).write(ask(follower, image, 3), "case", NATIVE, path)
    assert not list(tmp_path.rglob("*.nii.gz"))


def test_one_decoder_alone_is_in_doubt_where_it_is_undecided(follower: Mixture, image: Volume) -> None:
    result = ask(follower, image, 3, keep_answers=True, uncertainty=True)
    assert result.uncertainty is not None
    p = result.probability(3).array / 255
    seen = result.uncertainty.array > 0
    assert np.allclose(result.uncertainty.array[seen] / 255, (1 - np.abs(2 * p - 1))[seen], atol=0.01)
    assert result.uncertainty.array.max() > 120  # where the mask's border runs between two low-resolution voxels


def test_two_decoders_are_in_doubt_where_they_disagree(
    follower: Mixture, greedy: Mixture, image: Volume, monkeypatch: pytest.MonkeyPatch
) -> None:
    two = np.zeros_like(image.array)
    two[9:12, 11:14, 7:10] = 100.0
    two[5:8, 5:8, 6:9] = 100.0  # bright, apart: only the greedy decoder takes it
    expert = Expert("Dataset001_Greedy", follower.view, greedy.foundation.decoder)
    mixture = replace(follower, experts=(expert,))
    monkeypatch.setattr(Mixture, "route", lambda *_: Route(1, 1.0, 1, 1.0, out_of_distribution=False))
    result = ask(mixture, Volume(two, image.geometry), 3, uncertainty=True)
    assert result.uncertainty is not None
    assert result.labels.array[6, 6, 7] == 3  # the expert alone decides
    assert result.uncertainty.array[6, 6, 7] > 150
    assert result.uncertainty.array[10, 12, 8] < 80  # both take the middle


def test_mirror_images_leave_a_symmetric_decoder_alone(follower: Mixture, image: Volume) -> None:
    one, four = (ask(follower, image, 3, keep_answers=True, tta=tta) for tta in (False, True))
    assert np.array_equal(one.labels.array, four.labels.array)
    assert np.abs(one.probability(3).array.astype(int) - four.probability(3).array).max() <= 1


def test_an_expert_looks_only_at_mirror_images_that_it_knows(
    follower: Mixture, greedy: Mixture, image: Volume, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoder = decoder_of(greedy)
    monkeypatch.setattr(Mixture, "route", lambda *_: Route(1, 1.0, 1, 1.0, out_of_distribution=False))
    for mirror_axes, looks in (((), 1), ((0, 2), 3), ((0, 1, 2), 4)):
        expert = Expert("Dataset001_Greedy", follower.view, greedy.foundation.decoder, mirror_axes=mirror_axes)
        decoder.asked.clear()
        ask(replace(follower, experts=(expert,)), image, 3, tta=True, max_crops=1)
        assert len(decoder.asked) == looks


def test_the_clicks_that_were_used_are_kept_and_can_be_given_again(
    follower: Mixture, image: Volume, tmp_path: Path
) -> None:
    result = ask(follower, image, 3, 5)
    own, path = Written(tmp_path / FINISHED), tmp_path / "case.nii.gz"
    written = ExtraOutputs(own, OutputOptions(out=tmp_path)).write(result, "case", NATIVE, path)
    assert written == ("clicks/case.json",)
    again = read_prompts(tmp_path / "clicks", ["case"], tmp_path).of_case("case", NATIVE)
    assert [one.class_id for one in again] == [row.class_id for row in result.rows]
    assert all(np.allclose(one.clicks_mm, was.clicks_mm) for one, was in zip(again, result.clicked, strict=True))
