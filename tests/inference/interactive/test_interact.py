from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from moe_pipeline.imaging.geometry import Geometry
from moe_pipeline.imaging.volume import Volume
from moe_pipeline.inference.interactive.interact import Reply, interact
from moe_pipeline.inference.interactive.request import PromptRequest, SimulatedRequest
from moe_pipeline.inference.interactive.segment_case import bank_for, segment_case
from moe_pipeline.inference.options import PLAIN, SegmentOptions, Zoom
from moe_pipeline.inference.windows.embedding_cache import CropBank
from moe_pipeline.inference.windows.placement import plan_windows
from moe_pipeline.mixture.model import Expert, Mixture, with_expert
from moe_pipeline.model.moe.selector import Route
from moe_pipeline.model.sam.foundation import SamFoundation, build_foundation
from moe_pipeline.prompts.prompt import Prompt
from moe_pipeline.records.foundation import View
from tests.phantoms.foundations import foundation_alone

VIEW = View(spacing_mm=2.0, size_voxels=16, normalisation="zscore_clipped")
IDENTITY = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)


@pytest.fixture
def general(tiny_foundation: SamFoundation) -> Mixture:
    return foundation_alone(tiny_foundation, VIEW)


def other_expert(general: Mixture, view: View = VIEW) -> Expert:
    torch.manual_seed(1)
    foundation = general.foundation
    assert isinstance(foundation, SamFoundation)
    decoder = build_foundation(foundation.config).mask_decoder
    decoder.bind_positions(foundation.prompt_encoder.dense_positions())
    return Expert("Dataset001_Other", view, decoder.requires_grad_(False).eval())


@pytest.fixture
def image() -> Volume:
    random = np.random.default_rng(0)
    geometry = Geometry((20, 24, 18), (1.5, 1.0, 2.5), (-10.0, 5.0, 3.0), IDENTITY)
    return Volume(random.normal(size=geometry.shape).astype(np.float32), geometry)


def request(image: Volume, **changes: Any) -> SimulatedRequest:
    reference = np.zeros(image.geometry.shape, np.uint8)
    reference[6:14, 8:16, 5:12] = 3
    labels = Volume(reference, image.geometry)
    return replace(SimulatedRequest("case", image, labels, classes={3: "organ"}, clicks=3), **changes)


def test_same_seed_same_label_map(general: Mixture, image: Volume) -> None:
    first, again = (segment_case(general, request(image)) for _ in range(2))
    assert np.array_equal(first.labels.array, again.labels.array)
    assert first.rows[0].n_clicks == 3


def test_the_label_map_lies_on_the_images_grid(general: Mixture, image: Volume) -> None:
    result = segment_case(general, request(image))
    assert result.labels.geometry == image.geometry
    assert set(np.unique(result.labels.array)) <= {0, 3}


def test_an_expert_below_tau_leaves_the_foundations_answer_bit_for_bit(general: Mixture, image: Volume) -> None:
    mixture = replace(with_expert(general, other_expert(general)), tau=1.0, selector="weighted")
    alone, routed = segment_case(general, request(image)), segment_case(mixture, request(image))
    assert routed.rows[0].expert == "general"
    assert np.array_equal(alone.labels.array, routed.labels.array)


def test_an_expert_above_tau_answers_and_is_named(general: Mixture, image: Volume) -> None:
    mixture = with_expert(general, other_expert(general))
    alone, spoken = segment_case(general, request(image)), segment_case(mixture, request(image))
    assert spoken.rows[0].expert == "Dataset001_Other"
    assert spoken.rows[0].weight == 1.0
    assert not np.array_equal(alone.labels.array, spoken.labels.array)


def test_an_expert_may_see_another_view(general: Mixture, image: Volume) -> None:
    fine = View(spacing_mm=1.0, size_voxels=16, normalisation="zscore_clipped")
    mixture = with_expert(general, other_expert(general, fine))
    result = segment_case(mixture, request(image, clicks=1))
    assert result.rows[0].expert == "Dataset001_Other"


def test_a_class_that_is_not_in_the_reference_is_absent(general: Mixture, image: Volume) -> None:
    result = segment_case(general, request(image, classes={7: "nothing"}))
    assert result.rows[0].status == "absent"
    assert not result.labels.array.any()


@pytest.mark.parametrize("n_clicks", [1, 3])
def test_given_clicks_answer_like_the_simulated_users_own(
    general: Mixture, image: Volume, monkeypatch: pytest.MonkeyPatch, n_clicks: int
) -> None:
    replies: list[Reply] = []

    def noting(*given: Any) -> Reply:
        replies.append(interact(*given))
        return replies[-1]

    monkeypatch.setattr("moe_pipeline.inference.interactive.segment_case.interact", noting)
    image = Volume(image.array[..., :12], image.geometry.cropped(((0, 20), (0, 24), (0, 12))))  # one crop, any click
    user = segment_case(general, request(image, clicks=n_clicks))
    prompt = Prompt(3, "organ", *replies[0].clicks, "prompts")
    given = segment_case(general, PromptRequest("case", image, (prompt,)))
    assert [row.prompt_source for row in (*user.rows, *given.rows)] == ["labels", "prompts"]
    assert given.rows[0].n_clicks == user.rows[0].n_clicks == n_clicks
    assert user.labels.array.any()
    assert np.array_equal(given.labels.array, user.labels.array)


def test_prompts_close_together_share_one_encoding(general: Mixture, image: Volume) -> None:
    crop_grid = CropBank(image, general.foundation, general.device).crop_grid(VIEW)
    centre = image.geometry.voxel_to_world(np.array([[10.0, 12.0, 8.0]]))
    far = image.geometry.voxel_to_world(np.array([[10.0, 12.0, 17.0]]))
    one, same, other = plan_windows(crop_grid, [centre, centre + 1.0, far])
    assert one == same != other


@pytest.mark.parametrize("zoom", ["off", "auto"])
def test_followed_beyond_the_crop_the_general_answer_is_the_same_in_any_company(
    general: Mixture, monkeypatch: pytest.MonkeyPatch, zoom: Zoom
) -> None:
    geometry = Geometry((50, 56, 40), (1.5, 1.0, 2.0))
    large = Volume(np.random.default_rng(1).normal(size=geometry.shape).astype(np.float32), geometry)
    one, two = (geometry.voxel_to_world(np.array([[x, 28.0, 20.0]])) for x in (12.0, 30.0))
    prompts = (
        Prompt(1, "known", np.concatenate([one, one + 2.0]), np.array([1, 1]), "prompts"),
        Prompt(2, "unknown", two, np.array([1]), "prompts"),
    )
    options = SegmentOptions(zoom=zoom, max_crops=6, keep_answers=True)
    fine = View(spacing_mm=1.5, size_voxels=16, normalisation="zscore_clipped")
    mixture = replace(with_expert(general, other_expert(general, fine)), selector="weighted")

    def route(_self: Mixture, *prompt: torch.Tensor) -> Route:
        labels = prompt[2]
        return (
            Route(1, 0.7, 1, 0.7, out_of_distribution=False)
            if labels.shape[1] == 2
            else Route(0, 0.0, 1, 0.2, out_of_distribution=False)
        )

    foundations_own = segment_case(general, PromptRequest("case", large, prompts), options)
    monkeypatch.setattr(Mixture, "route", route)
    routed = segment_case(mixture, PromptRequest("case", large, prompts), options)
    assert [row.expert for row in routed.rows] == ["Dataset001_Other", "general"]
    (before,), (after,) = foundations_own.answers[2][0].output, routed.answers[2][0].output
    assert before.n_windows > 1
    assert before.stitched.box == after.stitched.box
    assert np.array_equal(before.stitched.logits, after.stitched.logits)
    assert np.array_equal(foundations_own.probability(2).array, routed.probability(2).array)


def test_requests_on_one_image_may_share_their_crops(general: Mixture, image: Volume) -> None:
    bank = bank_for(general, image, PLAIN)
    first = segment_case(general, request(image), PLAIN, bank)
    n_encoded = bank.n_encoded
    assert n_encoded
    again = segment_case(with_expert(general, other_expert(general)), request(image, clicks=1), PLAIN, bank)
    assert bank.n_encoded == n_encoded
    assert again.rows[0].expert == "Dataset001_Other"
    assert np.array_equal(first.labels.array, segment_case(general, request(image)).labels.array)
    with pytest.raises(AssertionError, match="crops of another image"):
        segment_case(general, request(Volume(image.array.copy(), image.geometry)), PLAIN, bank)
    with pytest.raises(AssertionError, match="crops of another image"):
        segment_case(general, request(image), SegmentOptions(tta=True), bank)
