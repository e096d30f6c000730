"""One prompt's conversation with the mixture: clicks in, an answer on the image's own grid out."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from moe_pipeline.imaging.crop_grid import Start
from moe_pipeline.inference.interactive.decoder_session import Speaker
from moe_pipeline.inference.interactive.mixture_mask import Answer
from moe_pipeline.inference.windows.decode import Clicks, route_of
from moe_pipeline.inference.windows.embedding_cache import ALL_AXES, CropBank
from moe_pipeline.inference.windows.to_image import ProbabilityMap
from moe_pipeline.mixture.model import Mixture
from moe_pipeline.model.moe.selector import GENERAL, Route
from moe_pipeline.prompts.prompt import DensePrompt

__all__ = ["Clicks", "NextClick", "ProbabilityMap", "Reply", "converse_with", "route_of"]

NextClick = Callable[[Callable[[], ProbabilityMap], Clicks], Clicks]
"""Given the present answer and the clicks so far, the clicks for the next turn: one more than before. The answer is
brought to the image's grid only if it is called for."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What the mixture makes of one prompt."""

    route: Route
    clicks: Clicks
    answer: Answer


def converse_with(
    model: Mixture,
    bank: CropBank,
    route: Route,
    homes: tuple[Start, Start | None],
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
        homes: first crops in the foundation's view and in the expert's.
        known: the clicks at the start; the first of them opens the dialogue.
        turns: how many turns.
        next_click: asked for the clicks of each following turn.
        dense: an earlier mask that the decoders begin with.

    Returns:
        The clicks used and the answer of the last turn.
    """
    settings = model.settings
    speakers = []
    if route.weight < 1 or settings.both:
        general = model.foundation.mask_decoder
        speakers.append(Speaker(bank, general, model.view, homes[0], settings, ALL_AXES, may_zoom=True, dense=dense))
    if route.expert != GENERAL:
        expert = model.experts[route.expert - 1]
        assert homes[1] is not None, "an expert without a crop"
        speakers.append(
            Speaker(
                bank, expert.decoder, expert.view, homes[1], settings, expert.mirror_axes, may_zoom=False, dense=dense
            )
        )
    clicks = known[0][:1], known[1][:1]
    present = partial(_present, speakers, route, bank)
    for turn in range(turns):
        for speaker in speakers:
            speaker.answer(clicks)
        if turn + 1 < turns:
            clicks = next_click(lambda: present().whole(), clicks)
    return Reply(route, clicks, present())


def _present(speakers: list[Speaker], route: Route, bank: CropBank) -> Answer:
    return Answer(bank.image.geometry, tuple(speaker.hear() for speaker in speakers), route.weight)
