"""Thresholds by risk: how much Dice the mixture may lose on prompts that no expert is meant for, with what confidence.

Learn then test (Angelopoulos et al. 2021) by a fixed sequence: settings are tried in an order that was fixed without
the samples, from a silent mixture on, and the first whose mean loss is not shown to stay below the risk ends it. A
setting that breaks the risk is taken only if the first such one is passed by chance, so all that are taken hold it
together with the confidence. Losses need not grow along the way, and are negative where Dice is won; risk-controlling
prediction sets (Bates et al. 2021) ask for losses that only grow.

What is shown is by betting (Waudby-Smith and Ramdas 2024) with everything staked: were the mean loss R or more, a
capital that is multiplied by 1 + R - loss after each sample would not grow on average, so by Ville's inequality it
exceeds 1 / delta with a probability of at most delta. Samples must be independent, and like what is asked later; their
order does not matter.
"""

import math
from collections.abc import Iterable
from itertools import takewhile

import numpy as np
from numpy.typing import NDArray

_HALVINGS = 60


def samples_needed(risk: float, confidence: float) -> int:
    """Independent samples without any loss that are enough to hold a risk."""
    return math.ceil(math.log(1 / (1 - confidence)) / math.log1p(risk))


def upper_bound(losses: NDArray[np.float64], confidence: float) -> float:
    """What the mean loss does not exceed with a confidence: the smallest R whose capital reaches 1 / delta, 1 at most.

    Args:
        losses: (n,) in [-1, 1], independent; negative where something is won.
        confidence: in (0, 1), e.g. 0.95.
    """
    goal = math.log(1 / (1 - confidence))
    low, high = 0.0, 1.0
    if _log_capital(losses, high) < goal:
        return 1.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if _log_capital(losses, middle) >= goal else (middle, high)
    return high


def _log_capital(losses: NDArray[np.float64], risk: float) -> float:
    with np.errstate(divide="ignore"):
        return float(np.log(np.maximum(1 + risk - losses, 0)).sum())


def steps_that_hold(losses: Iterable[NDArray[np.float64]], risk: float, confidence: float) -> int:
    """How many settings hold the risk before the first that does not.

    Args:
        losses: (n,) each in [-1, 1], of the settings in an order that was fixed without these samples.
        risk: mean loss that is allowed.
        confidence: that it is held by all of them.
    """
    return sum(1 for _ in takewhile(lambda of: upper_bound(of, confidence) <= risk, losses))
