"""The selector: gate weights and two masks become one."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

SelectorMode = Literal["weighted", "specific", "general"]

GENERAL = 0


@dataclass(frozen=True, slots=True)
class Route:
    """Who answers one prompt.

    Attributes:
        expert: 0 for the general expert, k for expert k.
        weight: of the expert's mask; 0 when the general expert answers alone.
        best_expert: the expert with the largest weight that its OOD detector allows.
        best_weight: that weight.
        out_of_distribution: the gate preferred an expert whose OOD detector found the image unlike its own.
    """

    expert: int
    weight: float
    best_expert: int
    best_weight: float
    out_of_distribution: bool


def in_distribution_weights(weights: Tensor, known: Tensor) -> Tensor:
    """Give the weights of experts that do not know the image to the general expert.

    Args:
        weights: (P, N + 1), rows sum to 1, general first.
        known: (P, N) bool.

    Returns:
        (P, N + 1), rows still sum to 1.
    """
    allowed = torch.where(known, weights[:, 1:], 0.0)  # (P, N)
    general = weights[:, :1] + (weights[:, 1:] - allowed).sum(1, keepdim=True)  # (P, 1)
    return torch.cat((general, allowed), dim=1)


def choose_route(weights: Tensor, known: Tensor, tau: float, mode: SelectorMode = "weighted") -> Route:
    """The selector's rule for one prompt.

    With k the expert of the largest weight: if w_k > tau it speaks, with weight w_k ("weighted") or alone
    ("specific"); otherwise, and always in mode "general", the general expert speaks alone.

    Args:
        weights: (N + 1,) of the gate, general first.
        known: (N,) bool of the OOD detectors.
        tau: threshold in [0, 1).
        mode: see above.
    """
    allowed = in_distribution_weights(weights[None], known[None])[0]  # (N + 1,)
    best = int(allowed[1:].argmax()) + 1
    weight = float(allowed[best])
    preferred = int(weights.argmax())
    out_of_distribution = preferred != GENERAL and not bool(known[preferred - 1])
    if mode == "general" or weight <= tau:
        return Route(GENERAL, 0.0, best, weight, out_of_distribution)
    return Route(best, weight if mode == "weighted" else 1.0, best, weight, out_of_distribution)


def mix(specific: Tensor, general: Tensor, weight: float) -> Tensor:
    """Weighted mean of two probability maps on one grid."""
    return weight * specific + (1 - weight) * general
