"""One prompt's interaction with the mixture: clicks in, an answer on the image's own grid out."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, partial

from moe_pipeline.imaging.crop_grid import WindowIndex
from moe_pipeline.inference.interactive.decoder_session import DecoderSession, DecoderTurns
from moe_pipeline.inference.interactive.mixture_mask import MixtureMask
from moe_pipeline.inference.interactive.objects import CaseObject
from moe_pipeline.inference.options import PLAIN, SegmentOptions
from moe_pipeline.inference.windows.decode import Clicks
from moe_pipeline.inference.windows.embedding_cache import ALL_AXES, CropBank
from moe_pipeline.mixture.model import Mixture
from moe_pipeline.model.moe.selector import GENERAL, Route

_log = logging.getLogger(__name__)

Turns = Mapping[tuple[int, WindowIndex], DecoderTurns]
"""By output of the router and first crop."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What the mixture makes of one prompt.

    Attributes:
        route: who answered.
        clicks: used.
        answer: of the last turn.
        turns: by output of the router and first crop, how far each decoder has come.
    """

    route: Route
    clicks: Clicks
    answer: MixtureMask
    turns: Turns


def interact(
    model: Mixture,
    bank: CropBank,
    wanted: CaseObject,
    route: Route,
    initial_windows: tuple[WindowIndex, WindowIndex | None],
    options: SegmentOptions = PLAIN,
    before: Turns | None = None,
) -> Reply:
    """Let the chosen decoders answer turn by turn.

    Every turn feeds each decoder all clicks so far and its own previous logits, as it was trained. A decoder that has
    answered the first of these clicks before, in the same first crop, goes on from there.

    Args:
        model: the mixture.
        bank: crops of the case.
        wanted: an object with clicks.
        route: who answers.
        initial_windows: first crops in the foundation's view and in the expert's.
        options: how far the decoders may go.
        before: turns of the same object with given clicks, of the same model, bank and options.
    """
    assert wanted.known is not None, "an object without clicks cannot be answered"
    sessions = _sessions(model, bank, wanted, route, initial_windows, options)
    for key, session in sessions.items():
        if before is not None and key in before and before[key].lead_to(wanted.known, session.box):
            session.go_on(before[key])
    clicks = wanted.known[0][:1], wanted.known[1][:1]
    present = partial(_present, list(sessions.values()), route, bank)
    for turn in range(wanted.turns):
        for session in sessions.values():
            if len(session.clicks[1]) <= turn:
                session.answer(clicks)
        if turn + 1 < wanted.turns:
            clicks = wanted.next_click(lambda: present().whole(), clicks)
    return Reply(route, clicks, present(), {key: session.turns for key, session in sessions.items()})


def _sessions(
    model: Mixture,
    bank: CropBank,
    wanted: CaseObject,
    route: Route,
    initial_windows: tuple[WindowIndex, WindowIndex | None],
    options: SegmentOptions,
) -> dict[tuple[int, WindowIndex], DecoderSession]:
    """The general expert's side where it has a say or is asked for the uncertainty, and the expert's."""
    of_general, of_expert = initial_windows
    box, text = wanted.box, wanted.text
    if box is not None and "boxes" not in model.foundation.takes:
        box = None
        say_that_boxes_become_clicks()
    sessions = {}
    if route.weight < 1 or options.uncertainty:
        decoder = model.foundation.decoder
        sessions[GENERAL, of_general] = DecoderSession(
            bank, decoder, model.view, of_general, options, ALL_AXES, True, wanted.dense, box, text
        )
    if route.expert != GENERAL:
        expert = model.experts[route.expert - 1]
        assert of_expert is not None, "an expert without a crop"
        axes = expert.mirror_axes
        sessions[route.expert, of_expert] = DecoderSession(
            bank, expert.decoder, expert.view, of_expert, options, axes, False, wanted.dense, box, text
        )
    return sessions


@cache
def say_that_boxes_become_clicks() -> None:
    """Once: what becomes of boxes that a foundation does not take."""
    _log.warning(
        "this foundation takes no boxes: a box places the crop, and its centre is clicked where no click lies inside"
    )


def _present(sessions: list[DecoderSession], route: Route, bank: CropBank) -> MixtureMask:
    return MixtureMask(bank.image.geometry, tuple(session.output() for session in sessions), route.weight)
