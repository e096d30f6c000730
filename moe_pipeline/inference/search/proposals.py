"""Proposed clicks, and which of them may become prompts."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from moe_pipeline.inference.search.experts import ClassSearch
from moe_pipeline.inference.windows.decode import routes_of
from moe_pipeline.inference.windows.embedding_cache import CropBank
from moe_pipeline.inference.windows.placement import plan_windows
from moe_pipeline.mixture.model import Mixture
from moe_pipeline.model.moe.selector import Route
from moe_pipeline.prompts.prompt import Prompt

SOURCE = "automatic"
_INSIDE = np.array([1])

Key = tuple[int, int]
"""Output of an expert and class id."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """A click on an object.

    Attributes:
        wanted: who proposes it.
        class_id: of what.
        place_mm: (3,) RAS world.
        chance: how sure the click proposer is that the class is in the crop around it.
    """

    wanted: ClassSearch
    class_id: int
    place_mm: NDArray[np.float64]
    chance: float

    @property
    def key(self) -> Key:
        """Whose class this is."""
        return self.wanted.output, self.class_id

    @property
    def prompt(self) -> Prompt:
        """One click inside."""
        name = self.wanted.classes[self.class_id]
        return Prompt(self.class_id, name, self.place_mm[None], _INSIDE, SOURCE)


@dataclass(frozen=True, slots=True)
class Missing:
    """A class that was looked for and gets no prompt.

    Attributes:
        class_id: value in the label map.
        class_name: its name.
        expert: who looked for it.
        message: why there is none.
        out of distribution: whether the expert's OOD detector does not know the image.
        source: of the prompt that it would have got.
    """

    class_id: int
    class_name: str
    expert: str
    message: str
    out_of_distribution: bool
    source: str = SOURCE


def settle(model: Mixture, bank: CropBank, proposals: list[Proposal]) -> tuple[list[Proposal], dict[Key, Missing]]:
    """Proposals that their own expert will answer, one expert for each label value; and why the others are dropped.

    Crops are planned for all prompts of a case together. So what is dropped may move the crops of the rest, and they
    are asked again, until all that are left are answered by their experts in just the crops of the click sequence.

    Args:
        model: the mixture; gate and OOD detectors are asked even where its selector lets the general expert answer all.
        bank: crops of the case.
        proposals: of all experts.
    """
    asked = replace(model, selector="weighted") if model.selector == "general" else model
    dropped: dict[Key, Missing] = {}
    while True:
        places = [proposal.place_mm[None] for proposal in proposals]
        initial_windows = plan_windows(bank.crop_grid(model.view), places)
        clicks = [(place, _INSIDE) for place in places]
        routes = [route for route, _ in routes_of(asked, bank, initial_windows, clicks, places)]
        best: dict[int, tuple[Proposal, float]] = {}
        for proposal, route in zip(proposals, routes, strict=True):
            if route.expert == proposal.wanted.output and route.weight > best.get(proposal.class_id, (None, 0.0))[1]:
                best[proposal.class_id] = proposal, route.weight
        kept = []
        for proposal, route in zip(proposals, routes, strict=True):
            winner = best[proposal.class_id][0] if proposal.class_id in best else None
            if (refusal := _refusal(proposal, route, winner)) is None:
                kept.append(proposal)
            else:
                dropped[proposal.key] = refusal
        if len(kept) == len(proposals):
            return kept, dropped
        proposals = kept


def _refusal(proposal: Proposal, route: Route, winner: Proposal | None) -> Missing | None:
    """Why a proposal is dropped; None if it is not."""
    wanted, class_id = proposal.wanted, proposal.class_id
    if route.expert != wanted.output and route.out_of_distribution:
        return unlike(wanted, class_id)
    if route.expert != wanted.output:
        return left_out(wanted, class_id, "the gate leaves this place to another expert or to the general one")
    if winner is not None and winner.wanted.output != wanted.output:
        taken = f"{winner.prompt.class_name} of {winner.wanted.expert.name}"
        return left_out(wanted, class_id, f"label {class_id} is {taken} in this image; choose with --experts")
    return None


def left_out(wanted: ClassSearch, class_id: int, message: str) -> Missing:
    """A class that its expert looked for in vain."""
    return Missing(class_id, wanted.classes[class_id], wanted.expert.name, message, out_of_distribution=False)


def unlike(wanted: ClassSearch, class_id: int) -> Missing:
    """A class that its expert does not look for, since its OOD detector does not know the image."""
    message = f"the image is unlike those of {wanted.expert.name}"
    return Missing(class_id, wanted.classes[class_id], wanted.expert.name, message, out_of_distribution=True)
