"""Evidence with its outcome: prompts of which both decoders' Dice is known, and background clicks."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial

import numpy as np
from torch import Tensor

from moe_pipeline.model.moe.claim import EVIDENCE
from moe_pipeline.training.claims.kept_outcomes import KeptOutcomes
from moe_pipeline.training.claims.panel import Panel
from moe_pipeline.training.claims.prompted_images import PromptedImage
from moe_pipeline.training.interactive.case_windows import PromptDice

_OOD = EVIDENCE.index("ood")


@dataclass(frozen=True, slots=True)
class ClaimSample:
    """One prompt as one expert would claim it.

    Attributes:
        source: dataset, or the name of a synthetic set.
        case: of the source.
        owner: the output whose dataset the prompt is from; 0 for a general dataset.
        expert: the output that was asked, from 1.
        nominee: the output that the gate names for the prompt; 0 where no OOD detector knows the image.
        evidence: (E,).
        general_dice: Dice of the general expert; NaN for a background click.
        expert_dice: of the expert.
    """

    source: str
    case: str
    owner: int
    expert: int
    nominee: int
    evidence: Tensor
    general_dice: PromptDice
    expert_dice: PromptDice

    @property
    def known(self) -> bool:
        """Whether somebody knows what is meant."""
        return not np.isnan(self.general_dice.first)

    @property
    def gains(self) -> tuple[float, float]:
        """Dice that the expert wins over the general one, with the first click and with its corrections."""
        first, corrected = (own - general for own, general in zip(self.expert_dice, self.general_dice, strict=True))
        return first, corrected

    @property
    def gain(self) -> float:
        """The mean of both, as experts are validated."""
        return sum(self.gains) / 2

    @property
    def in_distribution(self) -> bool:
        """Whether the expert's OOD detector in the foundation's view knows the image, so that it might be named."""
        return bool(self.evidence[_OOD] <= 0)

    @property
    def own(self) -> bool:
        """Whether the prompt is from the expert's own dataset, and on one of its objects."""
        return self.known and self.owner == self.expert


def samples_on(
    image: PromptedImage,
    panel: Panel,
    kept: KeptOutcomes,
    asked: Callable[[int], Sequence[int]],
    *,
    screened: bool = False,
    features: Tensor | None = None,
) -> Iterator[ClaimSample | None]:
    """The prompts of one image as some experts would claim them.

    Args:
        image: with its prompts.
        panel: the experts behind their gate.
        kept: what was computed before; gets what is computed now.
        asked: from the output that the gate names, or 0, to those that are asked.
        screened: None stands for experts whose OOD detector in their own view does not know the image: they are not
            asked to decode.
        features: (n, 5C) of the prompts, if they are known.
    """
    opened = cache(image.open)
    features = kept.features(image, panel, opened) if features is None else features
    outcomes = cache(partial(kept.outcomes, image, panel, features, opened, screened=screened))  # read once for all
    for number in range(len(features)):
        nominee = panel.named(features[number : number + 1])
        for output in asked(nominee):
            outcome = outcomes(output)[number]
            where = image.source, image.case, image.owner, output, nominee
            yield None if outcome is None else ClaimSample(*where, *outcome)
