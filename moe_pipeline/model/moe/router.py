"""Who answers: the gate behind its OOD detectors, and the experts that joined after it was trained."""

from collections.abc import Collection, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from moe_pipeline.model.moe.gate import Gate, OODDetector
from moe_pipeline.model.moe.selector import GENERAL, Route, SelectorMode, choose_route, in_distribution_weights

_ADDED = 1  # its output in a gate over {all others, added expert}


class AddedExpert(nn.Module):
    """How an expert that joined a finished gate asks for its prompts.

    It has a gate of its own over {all others, itself} and an OOD detector. What it does not claim passes as if it
    were not there, bit for bit.

    Args:
        gate: with one expert.
        ood_detector: of the added expert.
        threshold: it claims a prompt if its weight is above this, at least 0.5, so that nobody else weighs more.
    """

    def __init__(self, gate: Gate, ood_detector: OODDetector, threshold: float) -> None:
        super().__init__()
        if gate.config.n_experts != 1 or threshold < 0.5:
            raise ValueError(f"expected one expert and a threshold >= 0.5, got {gate.config.n_experts} and {threshold}")
        self.gate = gate
        self.ood_detector = ood_detector
        self.threshold = threshold

    def wants(self, features: Tensor) -> Tensor:
        """Its weight where that is above the threshold, else exactly 0: (P, 5C) -> (P,)."""
        weight = self.gate.weights(features)[:, _ADDED]
        return torch.where(weight > self.threshold, weight, 0.0)

    def knows(self, features: Tensor) -> Tensor:
        """Its OOD detector's answer, (P,) bool."""
        return self.ood_detector.knows(features)


class Router(nn.Module):
    """From gate features to the expert that answers.

    Args:
        gate: over {general, 1..M}.
        ood_detectors: one per expert of the gate.
        kept: the gate's outputs that still have an expert, in ascending order; all by default. The weights of the
            others go to the general expert, so removing an expert changes no other's weight.
        added_experts: experts that joined later; their outputs follow those of the gate.
    """

    def __init__(
        self,
        gate: Gate,
        ood_detectors: Sequence[OODDetector],
        kept: Sequence[int] | None = None,
        added_experts: Sequence[AddedExpert] = (),
    ) -> None:
        super().__init__()
        outputs = range(1, gate.config.n_experts + 1)
        if len(ood_detectors) != len(outputs):
            raise ValueError(f"expected an OOD detector for each of {len(outputs)} experts, got {len(ood_detectors)}")
        self.gate = gate
        self.kept = tuple(outputs if kept is None else kept)
        self.removed = tuple(k for k in outputs if k not in self.kept)
        self.ood_detectors = nn.ModuleList(ood_detectors[k - 1] for k in self.kept)
        self.added_experts = nn.ModuleList(added_experts)

    def weights(self, features: Tensor, refused: Collection[int] = ()) -> Tensor:
        """Weights before the OOD detectors of the gate's own experts, and behind those of the added experts.

        Args:
            features: (P, 5C).
            refused: outputs of added experts that are not asked.

        Returns:
            (P, N + 1), general first, then the kept outputs of the gate, then the added experts.
        """
        raw = self.gate.weights(features)  # (P, M + 1)
        general = raw[:, :1] + raw[:, list(self.removed)].sum(1, keepdim=True)
        weights = torch.cat((general, raw[:, list(self.kept)]), dim=1)
        for output, added_expert in enumerate(self._added_experts(), start=1 + len(self.kept)):
            claim = torch.where(added_expert.knows(features), added_expert.wants(features), 0.0)[:, None]  # (P, 1)
            claim = torch.zeros_like(claim) if output in refused else claim
            weights = torch.cat((weights * (1 - claim), claim), dim=1)
        return weights  # (P, N + 1)

    def knows(self, features: Tensor) -> Tensor:
        """Which experts may answer on each prompt's image, (P, N) bool; added experts asked theirs already."""
        known = [
            ood_detector.knows(features) for ood_detector in self.ood_detectors if isinstance(ood_detector, OODDetector)
        ]
        known += [torch.ones(len(features), dtype=torch.bool, device=features.device)] * len(self.added_experts)
        return torch.stack(known, dim=1)

    def ood_scores(self, features: Tensor) -> Tensor:
        """How far each image is from those of each expert, over the distance that its OOD detector still lets pass.

        Args:
            features: (P, 5C); only what describes the image counts.

        Returns:
            (P, N), above 1 where `knows` says no.
        """
        scores = [ood_detector.distance(features) / ood_detector.limit for ood_detector in self.all_detectors()]
        return torch.stack(scores, dim=1)

    def all_detectors(self) -> list[OODDetector]:
        """OOD detectors of all experts, in the order of their outputs."""
        own = [ood_detector for ood_detector in self.ood_detectors if isinstance(ood_detector, OODDetector)]
        return [*own, *(added_expert.ood_detector for added_expert in self._added_experts())]

    def answering(self, features: Tensor, tau: float) -> Tensor:
        """The output that answers each prompt, (P, 5C) -> (P,) int64."""
        allowed = in_distribution_weights(self.weights(features), self.knows(features))  # (P, N + 1)
        weight, best = allowed[:, 1:].max(1)
        return torch.where(weight > tau, best + 1, GENERAL)

    def is_added(self, output: int) -> bool:
        """Whether an output is that of an expert that joined later."""
        return output > len(self.kept)

    def route(
        self, features: Tensor, tau: float, mode: SelectorMode = "weighted", refused: Collection[int] = ()
    ) -> Route:
        """The selector's choice for one prompt.

        Args:
            features: (1, 5C).
            tau: threshold of the selector.
            mode: of the selector.
            refused: outputs of added experts that are not asked.
        """
        route = choose_route(self.weights(features, refused)[0], self.knows(features)[0], tau, mode)
        turned_away = any(
            bool(n.wants(features)[0] > 0) and not bool(n.knows(features)[0]) for n in self._added_experts()
        )
        return replace(
            route, out_of_distribution=route.out_of_distribution or (turned_away and route.expert == GENERAL)
        )

    def _added_experts(self) -> list[AddedExpert]:
        return [added_expert for added_expert in self.added_experts if isinstance(added_expert, AddedExpert)]
