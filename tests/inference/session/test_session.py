"""A session says what a prediction with the same prompts says, and every step of it can be undone."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from moe_pipeline.errors import ImageError, PromptError
from moe_pipeline.imaging.geometry import Geometry
from moe_pipeline.imaging.volume import Volume
from moe_pipeline.inference.api import Predictor
from moe_pipeline.inference.options import SegmentOptions
from moe_pipeline.inference.session.change import SessionChange
from moe_pipeline.inference.session.session import Session
from moe_pipeline.mixture.model import Expert, Mixture, with_expert
from moe_pipeline.model.sam.foundation import SamFoundation, build_foundation
from moe_pipeline.records.foundation import View
from moe_pipeline.records.prompts import SessionEvent
from tests.phantoms.foundations import decoder_of, foundation_alone

NATIVE = Geometry((44, 38, 30), (1.5, 1.0, 2.5), (10.0, 5.0, 3.0), (0, -1.0, 0, 1.0, 0, 0, 0, 0, -1.0))
VIEW = View(spacing_mm=2.0, size_voxels=16, normalisation="zscore_clipped")
CLICKS = [((20, 18, 14), True), ((26, 20, 12), True), ((12, 9, 20), False), ((23, 15, 16), True), ((30, 30, 8), False)]
OPTIONS = SegmentOptions(max_crops=4)


@pytest.fixture(scope="module")
def image() -> Volume:
    noise = np.random.default_rng(0).normal(size=NATIVE.shape).astype(np.float32)
    return Volume(noise, NATIVE)


@pytest.fixture(scope="module")
def model(tiny_foundation: SamFoundation) -> Predictor:
    """A foundation and an expert with another view, both with random weights."""
    general = foundation_alone(tiny_foundation, VIEW)
    torch.manual_seed(1)
    decoder = build_foundation(tiny_foundation.config).mask_decoder
    decoder.bind_positions(tiny_foundation.prompt_encoder.dense_positions())
    view = View(spacing_mm=1.5, size_voxels=16, normalisation="zscore_clipped")
    expert = Expert("Dataset001_Other", view, decoder.requires_grad_(False).eval())
    mixture: Mixture = replace(with_expert(general, expert), selector="weighted", tau=0.2)
    return Predictor(mixture, OPTIONS)


def predicted(model: Predictor, image: Volume, session: Session) -> NDArray[Any]:
    return model.predict(image, list(session.prompts())).labels.array


def test_after_every_click_the_mask_is_that_of_a_prediction(model: Predictor, image: Volume) -> None:
    session = model.session(image)
    for n, (place, inside) in enumerate(CLICKS, start=1):
        change = session.add_click(place, inside)
        assert np.array_equal(session.labels.array, predicted(model, image, session))
        assert change.answer is not None
        assert len(session.prompts()[0].points) == n
    assert session.labels.geometry == NATIVE
    assert session.labels.array.any()


def test_several_objects_boxes_and_masks_are_those_of_a_prediction(model: Predictor, image: Volume) -> None:
    session = model.session(image)
    session.add_click((20, 18, 14))
    session.new_object(300, "organ")
    session.add_box((15, 10, 8), (24, 20, 18))
    session.add_click((28, 14, 12))  # the box grows with it
    session.new_object(class_name="other")
    session.add_click((22, 19, 15), inside=False)
    session.add_click((24, 16, 13))
    assert [one.class_id for one in session.prompts()] == [1, 300, 301]
    assert session.labels.array.dtype == np.uint16
    assert np.array_equal(session.labels.array, predicted(model, image, session))
    sharing = [prompt.model_copy(update={"own_crop": False}) for prompt in session.prompts()]
    assert not np.array_equal(session.labels.array, model.predict(image, sharing).labels.array)
    changed = session.remove(2)
    assert changed.box is not None
    assert np.array_equal(session.labels.array, predicted(model, image, session))


def test_a_change_is_the_box_of_all_that_changed(model: Predictor, image: Volume) -> None:
    session = model.session(image)
    shown = session.labels.array.copy()
    steps: list[Callable[[], SessionChange]] = [partial(session.add_click, *one) for one in CLICKS[:3]]
    steps += [session.undo, partial(session.add_box, (5, 5, 5), (15, 15, 15)), session.reset]
    for step in steps:
        change = step()
        after = session.labels.array
        if change.box is None:
            assert np.array_equal(after, shown)
            continue
        place = tuple(slice(*side) for side in change.box)
        patched = shown.copy()
        patched[place] = session.labels_in(change.box)
        assert np.array_equal(patched, after)
        for axis, (start, stop) in enumerate(change.box):  # and no larger
            differs = (shown != after).any(axis=tuple(other for other in range(3) if other != axis))
            assert (np.flatnonzero(differs)[[0, -1]] == [start, stop - 1]).all()
        shown = after
    assert not shown.any()


def test_any_number_of_steps_can_be_undone_and_done_again(
    model: Predictor, image: Volume, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("moe_pipeline.inference.session.history._KEPT_ANSWERS", 3)
    session = model.session(image)
    seen = [session.labels.array]
    session.new_object(1)
    for place, inside in CLICKS:
        session.add_click(place, inside)
        seen.append(session.labels.array)
    for expected in reversed(seen[:-1]):
        session.undo()
        assert np.array_equal(session.labels.array, expected)
    session.undo(100)
    assert (session.can_undo, session.can_redo) == (0, 1 + len(CLICKS))
    session.redo(100)
    assert np.array_equal(session.labels.array, seen[-1])
    session.undo(2)
    session.add_click((21, 21, 12))
    assert session.can_redo == 0


def test_a_further_click_costs_one_turn(follower: Mixture, image: Volume) -> None:
    session = Predictor(follower, SegmentOptions(max_crops=1)).session(image)
    asked = decoder_of(follower).asked
    asked.clear()
    for n, place in enumerate(((20, 18, 14), (21, 18, 14), (20, 19, 14), (19, 17, 14)), start=1):
        session.add_click(place)
        assert [clicks for clicks, _ in asked] == list(range(1, n + 1))
    session.add_click((23, 18, 14))  # near the crop's end: another crop shows all of them better, and hears all again
    assert [clicks for clicks, _ in asked] == [1, 2, 3, 4, 1, 2, 3, 4, 5]


def test_an_object_larger_than_a_crop_is_followed(greedy: Mixture) -> None:
    bright = np.zeros((60, 20, 20), np.float32)
    bright[4:56, 6:14, 6:14] = 100.0
    session = Predictor(greedy).session(bright, spacing_mm=(1, 1, 1))
    change = session.add_click((10, 10, 10))
    assert change.box is not None
    assert change.box[0][1] - change.box[0][0] > 48
    assert change.answer is not None
    assert change.answer.complete


def test_two_sessions_never_see_each_other(model: Predictor, image: Volume) -> None:
    other = Volume(np.flip(image.array, 1).copy(), NATIVE)
    alone = []
    for one in (image, other):
        session = model.session(one)
        for place, inside in CLICKS:
            session.add_click(place, inside)
        alone.append(session.labels.array)
    sessions = [model.session(one) for one in (image, other)]
    for place, inside in CLICKS:
        for session in sessions:
            session.add_click(place, inside)
    assert not np.array_equal(alone[0], alone[1])
    assert all(np.array_equal(s.labels.array, expected) for s, expected in zip(sessions, alone, strict=True))


def test_a_given_mask_is_shown_and_then_corrected(model: Predictor, image: Volume) -> None:
    session = model.session(image)
    mask = np.zeros(NATIVE.shape, bool)
    mask[10:22, 12:20, 8:15] = True
    change = session.set_mask(mask)
    assert change.box == ((10, 22), (12, 20), (8, 15))
    assert np.array_equal(session.labels.array > 0, mask)
    session.add_click((12, 13, 9), inside=False)
    assert session.prompts()[0].labels == (1, 0)  # the mask's middle, and the click
    assert not np.array_equal(session.labels.array > 0, mask)
    session.undo()
    assert np.array_equal(session.labels.array > 0, mask)


def test_a_click_without_asking_is_asked_later(model: Predictor, image: Volume) -> None:
    at_once, later = model.session(image), model.session(image)
    for place, inside in CLICKS:
        at_once.add_click(place, inside)
        assert later.add_click(place, inside, run=False).box is None
    change = later.predict()
    assert change.box is not None
    assert np.array_equal(at_once.labels.array, later.labels.array)


def test_a_journal_leads_to_the_same_masks(model: Predictor, image: Volume) -> None:
    events: list[SessionEvent] = []
    session = model.session(image, listener=events.append)
    for place, inside in CLICKS:
        session.add_click(place, inside)
    session.undo(2)
    session.new_object(2, "organ")
    session.add_box((5, 5, 5), (15, 15, 15))
    session.select(1)
    read = [SessionEvent.model_validate_json(event.model_dump_json()) for event in events]
    again = model.session(image)
    again.replay(read)
    assert np.array_equal(again.labels.array, session.labels.array)
    assert (again.active, again.can_undo) == (1, session.can_undo)
    assert events[1].answer is not None
    assert events[1].seconds > 0


@pytest.mark.parametrize(
    ("step", "message"),
    [
        (lambda s: s.add_click((44, 3, 3)), r"click \(44.0, 3.0, 3.0\).*outside the image, which has 44 x 38 x 30"),
        (lambda s: s.add_click((1, 2)), "expected three numbers"),
        (lambda s: s.add_click((1, 2, float("nan"))), "expected three numbers"),
        (lambda s: s.add_click((20, 18, 14), inside=False), "labelled both"),
        (lambda s: s.add_box((50, 0, 0), (60, 5, 5)), "outside the image"),
        (lambda s: s.set_mask(np.zeros((3, 3, 3))), r"grid \(44, 38, 30\)"),
        (lambda s: s.select(7), "no object 7; there are: 1"),
        (lambda s: s.new_object(0), "1..65535"),
        (lambda s: s.new_object(1, "liver"), "class 1 'liver' contradicts object 1"),
        (lambda s: s.undo(0), "undo"),
    ],
)
def test_what_cannot_be_is_an_error_and_changes_nothing(
    model: Predictor, image: Volume, step: Any, message: str
) -> None:
    session = model.session(image)
    session.new_object(1, "organ")
    session.add_click((20, 18, 14))
    before = session.labels.array
    with pytest.raises(PromptError, match=message):
        step(session)
    assert np.array_equal(session.labels.array, before)
    assert session.can_undo == 2


def test_an_image_without_contrast_is_refused(model: Predictor) -> None:
    with pytest.raises(ImageError, match="without contrast"):
        model.session(np.ones((8, 8, 8)), spacing_mm=(1, 1, 1))


def test_embeddings_stay_within_the_budget(model: Predictor, image: Volume) -> None:
    session = model.session(image, most_bytes=1)
    for place, inside in CLICKS:
        session.add_click(place, inside)
    assert len(session._bank) <= 1
    assert session.n_bytes < 4 << 20
