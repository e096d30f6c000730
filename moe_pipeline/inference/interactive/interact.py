"""One prompt's interaction with the mixture: clicks in, an answer on the image's own grid out."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from moe_pipeline.imaging.crop_grid import WindowIndex
from moe_pipeline.inference.interactive.decoder_session import DecoderSession
from moe_pipeline.inference.interactive.mixture_mask import MixtureMask
from moe_pipeline.inference.windows.decode import Clicks, route_of
from moe_pipeline.inference.windows.embedding_cache import ALL_AXES, CropBank
from moe_pipeline.inference.windows.to_image import ProbabilityMap
from moe_pipeline.mixture.model import Mixture
from moe_pipeline.model.moe.selector import GENERAL, Route
from moe_pipeline.prompts.prompt import DensePrompt

__all__ = ["Clicks", "NextClick", "ProbabilityMap", "Reply", "interact", "route_of"]

NextClick = Callable[[Callable[[], ProbabilityMap], Clicks], Clicks]
"""Given the present answer and the clicks so far, the clicks for the next turn: one more than before. The answer is
brought to the image's grid only if it is called for."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What the mixture makes of one prompt."""

    route: Route
    clicks: Clicks
    answer: MixtureMask


def interact(
    model: Mixture,
    bank: CropBank,
    route: Route,
    initial_windows: tuple[WindowIndex, WindowIndex | None],
    known: Clicks,
    turns: int,
    next_click: NextClick,
    dense: DensePrompt | None = None,
) -> Reply:
    """Let the chosen decoders answer turn by turn.

    Every turn feeds each decoder all clicks so far and its own previous logits, as it was trained.

    Args:
        model: the mixture.
        bank: crops of the case.
        route: who answers.
        initial_windows: first crops in the foundation's view and in the expert's.
        known: the clicks at the start; the first of them opens the click sequence.
        turns: how many turns.
        next_click: asked for the clicks of each following turn.
        dense: an earlier mask that the decoders begin with.

    Returns:
        The clicks used and the answer of the last turn.
    """
    settings = model.settings
    sessions = []
    if route.weight < 1 or settings.always_general:
        general = model.foundation.decoder
        sessions.append(
            DecoderSession(
                bank, general, model.view, initial_windows[0], settings, ALL_AXES, may_zoom=True, dense=dense
            )
        )
    if route.expert != GENERAL:
        expert = model.experts[route.expert - 1]
        assert initial_windows[1] is not None, "an expert without a crop"
        sessions.append(
            DecoderSession(
                bank,
                expert.decoder,
                expert.view,
                initial_windows[1],
                settings,
                expert.mirror_axes,
                may_zoom=False,
                dense=dense,
            )
        )
    clicks = known[0][:1], known[1][:1]
    present = partial(_present, sessions, route, bank)
    for turn in range(turns):
        for session in sessions:
            session.answer(clicks)
        if turn + 1 < turns:
            clicks = next_click(lambda: present().whole(), clicks)
    return Reply(route, clicks, present())


def _present(sessions: list[DecoderSession], route: Route, bank: CropBank) -> MixtureMask:
    return MixtureMask(bank.image.geometry, tuple(session.output() for session in sessions), route.weight)
