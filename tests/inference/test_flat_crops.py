"""Crops of unequal sides, fitted to the image or of unequal spacings, from a dataset to the mask of a box."""

import logging
from collections.abc import Iterator
from dataclasses import replace
from itertools import permutations, product
from pathlib import Path

import numpy as np
import pytest

from moe_pipeline.commands.predict import predict_and_score
from moe_pipeline.imaging.geometry import Geometry
from moe_pipeline.imaging.io.files import read_label_map
from moe_pipeline.imaging.overlap import dice
from moe_pipeline.imaging.volume import Volume
from moe_pipeline.inference.api import Predictor
from moe_pipeline.inference.interactive.interact import say_that_boxes_become_clicks
from moe_pipeline.inference.keywords import predict_options
from moe_pipeline.inference.options import SegmentOptions
from moe_pipeline.mixture.model import Mixture
from moe_pipeline.records.experts import ExpertCard
from moe_pipeline.records.foundation import View
from moe_pipeline.records.planning import Plan
from moe_pipeline.records.prompts import ObjectPrompt
from moe_pipeline.training.claims.learn_claims import ClaimSettings
from moe_pipeline.training.click_proposer.train import ClickProposerSettings
from moe_pipeline.training.expert.finetune import FinetuneOptions, finetune
from moe_pipeline.training.gate.gate_run import GateOptions
from moe_pipeline.training.gate.train_gate import train_gate
from moe_pipeline.workspace import Workspace
from tests.phantoms.flat import FITTED, build_flat, flat_networks
from tests.phantoms.foundations import foundation_alone, save_tiny
from tests.phantoms.workspaces import SMALL_PLAN, add_planned

NAME = "Dataset001_One"
NATIVE = FITTED.model_copy(update={"spacing_mm": "native"})
PROPOSER = ClickProposerSettings(steps=12, hidden=8, depth=1, search_crops=6, synthetic=2)


@pytest.fixture(scope="module")
def flat_workspace(tmp_path_factory: pytest.TempPathFactory, cheap_claims: ClaimSettings) -> Iterator[Workspace]:
    """General expert and gate see whole images fitted to the crop, the one expert voxels as they are."""
    place = Workspace(tmp_path_factory.mktemp("flat"))
    with flat_networks():
        save_tiny(build_flat(), place.weights, FITTED)
        add_planned(place, NAME, 6, **SMALL_PLAN)
        plan = Plan.load(place.plan(NAME))
        assert plan.view in (FITTED, NATIVE)
        assert "over a typical image" in plan.reasons["view"]
        assert min(plan.estimates.disk_mb, plan.estimates.minutes) > 0
        plan.model_copy(update={"view": NATIVE}).save(place.plan(NAME))
        finetune(place, place.raw(NAME), FinetuneOptions(epochs=2, click_proposer=PROPOSER))
        train_gate(place, [place.raw(NAME)], [], GateOptions(synthetic=4, claims=cheap_claims))
        yield place


def dice_of_balls(found: Path, references: Path) -> list[float]:
    """Of all that was found, whatever class it was called: the foundation knows no other than what is bright."""
    pairs = [
        (read_label_map(path).array > 0, read_label_map(references / path.name).array == 1)
        for path in found.glob("*.nii.gz")
    ]
    assert len(pairs) == 6
    return [dice(mask, ball) for mask, ball in pairs]


def test_flat_crops_go_from_a_plan_to_label_maps(flat_workspace: Workspace, tmp_path: Path) -> None:
    place, images = flat_workspace, flat_workspace.raw(NAME) / "imagesTr"
    expert = ExpertCard.load(place.expert(NAME) / "expert.json")
    assert (expert.view, expert.best_step > 0) == (NATIVE, True)
    assert {path.name for path in place.embeddings(NAME).iterdir()} >= {"native_32x48x8", "fitted_32x48x8"}
    predict_and_score(place, predict_options(images, tmp_path / "clicked", labels=place.raw(NAME) / "labelsTr"))
    assert min(dice_of_balls(tmp_path / "clicked", place.raw(NAME) / "labelsTr")) > 0.65
    found = predict_and_score(place, predict_options(images, tmp_path / "searched"))
    assert not found.failed


@pytest.mark.usefixtures("flat_workspace")
def test_a_view_of_unequal_spacings_is_planned_and_learnt_from(tmp_path: Path) -> None:
    thick = FITTED.model_copy(update={"spacing_mm": (1.0, 1.2, 2.5)})
    place = Workspace(tmp_path)
    save_tiny(build_flat(), place.weights, thick)
    add_planned(place, NAME, 3, **SMALL_PLAN)
    view = Plan.load(place.plan(NAME)).view
    assert np.allclose(np.array(view.edges_mm) / view.edges_mm[0], (1, 1.2, 2.5))  # a step keeps the proportions
    finetune(place, place.raw(NAME), FinetuneOptions(epochs=1, click_proposer=None))
    assert (place.embeddings(NAME) / view.short_name / "manifest.json").is_file()


# Two bright blocks, in an image of unequal sides and spacings whose axes run in every way that there is

CANONICAL = Geometry((48, 36, 24), (1.0, 1.5, 2.0), (-20.0, 7.0, 40.0))
BLOCK, OTHER = ((6, 24), (6, 18), (0, 12)), ((30, 42), (21, 33), (12, 24))
BOX = ([6, 6, 0], [23, 17, 11])  # first and last voxel of the first block
ALONG_AXES = FITTED.model_copy(update={"spacing_mm": (1.0, 1.5, 2.0)})
ACROSS = FITTED.model_copy(update={"spacing_mm": (1.1, 1.3, 3.0)})


def two_blocks() -> np.ndarray:
    image = np.zeros(CANONICAL.shape, np.float32)
    for block in (BLOCK, OTHER):
        image[tuple(slice(*side) for side in block)] = 100.0
    return image


def turned(order: tuple[int, ...], signs: tuple[int, ...]) -> Geometry:
    """The same voxels with their index axes in another order, some of them the other way round."""
    first = [0, 0, 0]
    direction = np.zeros((3, 3))
    for index, (axis, sign) in enumerate(zip(order, signs, strict=True)):
        direction[axis, index] = sign
        first[axis] = 0 if sign > 0 else CANONICAL.shape[axis] - 1
    shape, spacing = ([side[axis] for axis in order] for side in (CANONICAL.shape, CANONICAL.spacing_mm))
    origin = CANONICAL.voxel_to_world(first)
    return Geometry(tuple(shape), tuple(spacing), tuple(origin.tolist()), tuple(direction.ravel()))  # type: ignore[arg-type]


@pytest.fixture
def flat(no_scaling: None) -> Mixture:  # noqa: ARG001 - bright is what is above 50
    return foundation_alone(build_flat(), FITTED)


@pytest.mark.parametrize("view", [FITTED, NATIVE, ALONG_AXES, ACROSS], ids=lambda view: view.short_name)
def test_a_box_finds_its_block_in_every_orientation(flat: Mixture, view: View) -> None:
    model = Predictor(replace(flat, view=view), SegmentOptions(tta=view == NATIVE))
    image, truth = two_blocks(), np.zeros(CANONICAL.shape, bool)
    truth[tuple(slice(*side) for side in BLOCK)] = True
    found = set()
    for order, signs in product(permutations(range(3)), product((1, -1), repeat=3)):
        grid = turned(order, signs)
        flips = tuple(slice(None, None, sign) for sign in signs)
        corners = grid.world_to_voxel(CANONICAL.voxel_to_world(BOX)).round().tolist()
        prompt = ObjectPrompt(class_id=1, box=(corners[0], corners[1]))
        labels = model.predict(Volume(np.ascontiguousarray(image.transpose(order)[flips]), grid), [prompt]).labels
        assert labels.geometry == grid
        wanted = truth.transpose(order)[flips]
        assert dice(labels.array == 1, wanted) > 0.8  # low-resolution voxels are as wide as a third of the block
        found.add(labels.array[flips].transpose(np.argsort(order)).tobytes())
    assert len(found) == 1  # the same voxels, whichever way the axes run


def test_a_box_is_a_prompt_where_the_foundation_takes_it_and_else_a_click(
    flat: Mixture, follower: Mixture, caplog: pytest.LogCaptureFixture
) -> None:
    say_that_boxes_become_clicks.cache_clear()
    image = Volume(two_blocks(), CANONICAL)
    beside = ObjectPrompt(class_id=1, box=([6, 6, 0], [13, 17, 11]))  # half of the block
    whole, half = (
        Predictor(replace(flat, view=ALONG_AXES)).predict(image, [prompt]).labels.array
        for prompt in (ObjectPrompt(class_id=1, box=BOX), beside)
    )
    assert whole[16:20].any()
    assert not half[18:].any()
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            clicked = Predictor(follower).predict(image, [beside]).labels.array
    assert clicked[16:20].any()  # its centre was clicked, and the block followed
    assert [record.message for record in caplog.records if "takes no boxes" in record.message] == [
        "this foundation takes no boxes: a box places the crop, and its centre is clicked where no click lies inside"
    ]
