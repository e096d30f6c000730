"""Who may answer: the foundation, the experts, and the gate that names one of them."""

from dataclasses import dataclass

import torch
from torch import Tensor

from moe_pipeline.mixture.claims import claim_evidence
from moe_pipeline.mixture.gate_features import prompt_features
from moe_pipeline.mixture.model import Expert
from moe_pipeline.model.foundation import Foundation
from moe_pipeline.model.moe.claim import FirstMask
from moe_pipeline.model.moe.gate import OODDetector, image_features
from moe_pipeline.model.moe.router import Router
from moe_pipeline.records.foundation import View
from moe_pipeline.training.interactive.case_windows import CaseWindows, Click, PromptDice


@dataclass(frozen=True, slots=True)
class Panel:
    """All who may answer.

    Attributes:
        foundation: with the general decoder.
        view: of the general expert.
        router: gate and OOD detectors.
        experts: in the order of the router's outputs, from 1.
        own_detectors: OOD detectors of the experts, each in its own view.
        device: where foundation and experts live.
        tau: weight above which the gate names an expert; 0 names one wherever an OOD detector knows the image.
    """

    foundation: Foundation
    view: View
    router: Router
    experts: tuple[Expert, ...]
    own_detectors: tuple[OODDetector, ...]
    device: torch.device
    tau: float = 0.0

    @torch.no_grad()
    def features(self, case: CaseWindows, click: Click) -> Tensor:
        """Gate features of a prompt, (1, 5C) on the CPU, where the gate is trained."""
        window = case.window(self.view, click)
        labels = torch.ones(1, 1, dtype=torch.long, device=self.device)
        coordinates = window.click.to(self.device)[None, None]
        return prompt_features(self.foundation, window.embedding, coordinates, labels).cpu()

    @torch.no_grad()
    def named(self, features: Tensor) -> int:
        """Whom the gate names for a prompt with these features, (1, 5C); 0 for nobody."""
        return int(self.router.answering(features, self.tau)[0])

    @torch.no_grad()
    def may_claim(self, case: CaseWindows, click: Click, output: int) -> bool:
        """Whether an expert's OOD detector in its own view knows the image; else its claim is 0."""
        detector, window = self.own_detectors[output - 1], case.window(self.experts[output - 1].view, click)
        width = self.foundation.embedding_width
        return bool(detector.knows(image_features(window.embedding, width).to(detector.mean))[0])

    @torch.no_grad()
    def outcome(
        self, case: CaseWindows, click: Click, output: int, general: FirstMask, features: Tensor
    ) -> tuple[Tensor, PromptDice]:
        """What one expert would make of a prompt: the evidence for its claim, (E,), and its Dice.

        Args:
            case: the image.
            click: on it.
            output: of the expert, from 1.
            general: the general expert's answer.
            features: (1, 5C) of the prompt.
        """
        expert = self.experts[output - 1]
        mask, dice = case.answer(expert.decoder, expert.view, click)
        window, score = case.window(expert.view, click), float(self.router.ood_scores(features)[0, output - 1])
        own_detector = self.own_detectors[output - 1]
        return claim_evidence(mask, general, expert.click_proposer, window, score, own_detector), dice
