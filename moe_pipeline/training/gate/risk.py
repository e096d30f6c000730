"""Thresholds by risk: how much Dice the mixture may lose on prompts that no expert is meant for, with what confidence.

Risk-controlling prediction sets (Bates et al. 2021): losses lie in [0, 1] and can only grow while a threshold falls,
so the lowest threshold whose upper bound on the mean loss stays below the risk, and that of every higher one, too,
holds the risk with the confidence. The bound is by betting (Waudby-Smith and Ramdas 2024) with everything staked: were
the mean loss R or more, a capital that is multiplied by 1 + R - loss after each sample would not grow on average, so by
Ville's inequality it exceeds 1 / delta with a probability of at most delta. Samples must be independent, and like what
is asked later; their order does not matter.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

_HALVINGS = 60


def samples_needed(risk: float, confidence: float) -> int:
    """Independent samples without any loss that are enough to hold a risk."""
    return math.ceil(math.log(1 / (1 - confidence)) / math.log1p(risk))


def upper_bound(losses: NDArray[np.float64], confidence: float) -> float:
    """What the mean loss does not exceed with a confidence: the smallest R whose capital reaches 1 / delta, 1 at most.

    Args:
        losses: (n,) in [0, 1], independent.
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


def lowest_threshold(
    losses_at: Callable[[float], NDArray[np.float64]], thresholds: Sequence[float], risk: float, confidence: float
) -> float | None:
    """The lowest threshold that holds the risk, and with it every higher one; None if not even the highest does.

    Args:
        losses_at: (n,) losses at a threshold; none may grow with the threshold.
        thresholds: to be tried.
        risk: mean loss that is allowed.
        confidence: that it is held.
    """
    found = None
    for threshold in sorted(thresholds, reverse=True):
        if upper_bound(losses_at(threshold), confidence) > risk:
            break
        found = threshold
    return found
