"""Who answers: the gate behind its guards, and the experts that joined after it was trained."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from moe_pipeline.model.moe.gate import Gate, Guard
from moe_pipeline.model.moe.selector import GENERAL, Route, SelectorMode, choose_route, guarded_weights

_NEWCOMER = 1  # its output in a gate over {all others, newcomer}


class Newcomer(nn.Module):
    """How an expert that joined a finished gate asks for its prompts.

    It has a gate of its own over {all others, itself} and a guard. What it does not claim passes as if it were not
    there, bit for bit.

    Args:
        gate: with one expert.
        guard: of the newcomer.
        threshold: it claims a prompt if its weight is above this, at least 0.5, so that nobody else weighs more.
    """

    def __init__(self, gate: Gate, guard: Guard, threshold: float) -> None:
        super().__init__()
        if gate.config.n_experts != 1 or threshold < 0.5:
            raise ValueError(f"expected one expert and a threshold >= 0.5, got {gate.config.n_experts} and {threshold}")
        self.gate = gate
        self.guard = guard
        self.threshold = threshold

    def wants(self, features: Tensor) -> Tensor:
        """Its weight where that is above the threshold, else exactly 0: (P, 5C) -> (P,)."""
        weight = self.gate.weights(features)[:, _NEWCOMER]
        return torch.where(weight > self.threshold, weight, 0.0)

    def knows(self, features: Tensor) -> Tensor:
        """Its guard's answer, (P,) bool."""
        return self.guard.knows(features)


class Router(nn.Module):
    """From gate features to the expert that answers.

    Args:
        gate: over {general, 1..M}.
        guards: one per expert of the gate.
        kept: the gate's outputs that still have an expert, in ascending order; all by default. The weights of the
            others go to the general expert, so removing an expert changes no other's weight.
        newcomers: experts that joined later; their outputs follow those of the gate.
    """

    def __init__(
        self,
        gate: Gate,
        guards: Sequence[Guard],
        kept: Sequence[int] | None = None,
        newcomers: Sequence[Newcomer] = (),
    ) -> None:
        super().__init__()
        outputs = range(1, gate.config.n_experts + 1)
        if len(guards) != len(outputs):
            raise ValueError(f"expected a guard for each of {len(outputs)} experts, got {len(guards)}")
        self.gate = gate
        self.kept = tuple(outputs if kept is None else kept)
        self.removed = tuple(k for k in outputs if k not in self.kept)
        self.guards = nn.ModuleList(guards[k - 1] for k in self.kept)
        self.newcomers = nn.ModuleList(newcomers)

    def weights(self, features: Tensor) -> Tensor:
        """Weights before the guards of the gate's own experts, and behind those of the newcomers.

        Args:
            features: (P, 5C).

        Returns:
            (P, N + 1), general first, then the kept outputs of the gate, then the newcomers.
        """
        raw = self.gate.weights(features)  # (P, M + 1)
        general = raw[:, :1] + raw[:, list(self.removed)].sum(1, keepdim=True)
        weights = torch.cat((general, raw[:, list(self.kept)]), dim=1)
        for newcomer in self._newcomers():
            claim = torch.where(newcomer.knows(features), newcomer.wants(features), 0.0)[:, None]  # (P, 1)
            weights = torch.cat((weights * (1 - claim), claim), dim=1)
        return weights  # (P, N + 1)

    def knows(self, features: Tensor) -> Tensor:
        """Which experts may speak about each prompt's image; newcomers have asked their guards already: (P, N) bool."""
        known = [guard.knows(features) for guard in self.guards if isinstance(guard, Guard)]
        known += [torch.ones(len(features), dtype=torch.bool, device=features.device)] * len(self.newcomers)
        return torch.stack(known, dim=1)

    def strangeness(self, features: Tensor) -> Tensor:
        """How far each image is from those of each expert, over the distance that its guard still lets pass.

        Args:
            features: (P, 5C); only what describes the image counts.

        Returns:
            (P, N), above 1 where `knows` says no.
        """
        guards = [guard for guard in self.guards if isinstance(guard, Guard)]
        guards += [newcomer.guard for newcomer in self._newcomers()]
        return torch.stack([guard.distance(features) / guard.limit for guard in guards], dim=1)

    def answering(self, features: Tensor, tau: float) -> Tensor:
        """The output that answers each prompt, (P, 5C) -> (P,) int64."""
        allowed = guarded_weights(self.weights(features), self.knows(features))  # (P, N + 1)
        weight, best = allowed[:, 1:].max(1)
        return torch.where(weight > tau, best + 1, GENERAL)

    def route(self, features: Tensor, tau: float, mode: SelectorMode = "weighted") -> Route:
        """The selector's choice for one prompt.

        Args:
            features: (1, 5C).
            tau: threshold of the selector.
            mode: of the selector.
        """
        route = choose_route(self.weights(features)[0], self.knows(features)[0], tau, mode)
        turned_away = any(bool(n.wants(features)[0] > 0) and not bool(n.knows(features)[0]) for n in self._newcomers())
        return replace(route, guarded=route.guarded or (turned_away and route.expert == GENERAL))

    def _newcomers(self) -> list[Newcomer]:
        return [newcomer for newcomer in self.newcomers if isinstance(newcomer, Newcomer)]
