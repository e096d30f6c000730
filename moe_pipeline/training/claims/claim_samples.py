"""Evidence with its outcome: prompts of which both decoders' Dice is known, and background clicks."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from moe_pipeline.datasets.dataset import RawDataset
from moe_pipeline.files import sha256_file
from moe_pipeline.imaging.io.files import read_label_map, read_volume
from moe_pipeline.mixture.claims import claim_evidence
from moe_pipeline.mixture.gate_features import prompt_features
from moe_pipeline.mixture.model import Expert
from moe_pipeline.model.foundation import Foundation
from moe_pipeline.model.moe.claim import EVIDENCE
from moe_pipeline.model.moe.gate import OODDetector, image_features
from moe_pipeline.model.moe.router import Router
from moe_pipeline.model.moe.selector import GENERAL
from moe_pipeline.records.foundation import View
from moe_pipeline.training.claims.case_windows import CaseWindows, Click, background_clicks_in, clicks_in

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
        general_dice: of the general expert's first answer; NaN for a background click.
        expert_dice: of the expert's.
    """

    source: str
    case: str
    owner: int
    expert: int
    nominee: int
    evidence: Tensor
    general_dice: float
    expert_dice: float

    @property
    def known(self) -> bool:
        """Whether somebody knows what is meant."""
        return not np.isnan(self.general_dice)

    @property
    def gain(self) -> float:
        """Dice that the expert wins over the general one."""
        return self.expert_dice - self.general_dice

    @property
    def in_distribution(self) -> bool:
        """Whether the expert's OOD detector in the foundation's view knows the image, so that it might be named."""
        return bool(self.evidence[_OOD] <= 0)

    @property
    def own(self) -> bool:
        """Whether the prompt is from the expert's own dataset, and on one of its objects."""
        return self.known and self.owner == self.expert


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
    def nominee(self, case: CaseWindows, click: Click) -> tuple[int, Tensor]:
        """Whom the gate names for a prompt, and the OOD scores of all experts, (N,)."""
        window = case.window(self.view, click)
        labels = torch.ones(1, 1, dtype=torch.long, device=self.device)
        coordinates = window.click.to(self.device)[None, None]
        features = prompt_features(self.foundation, window.embedding, coordinates, labels)
        return self.named(features.cpu())

    @torch.no_grad()
    def named(self, features: Tensor) -> tuple[int, Tensor]:
        """The same of gate features, (1, 5C) on the CPU, where the gate is trained."""
        return int(self.router.answering(features, self.tau)[0]), self.router.ood_scores(features)[0]

    @torch.no_grad()
    def may_claim(self, case: CaseWindows, click: Click, output: int) -> bool:
        """Whether an expert's OOD detector in its own view knows the image; else its claim is 0."""
        detector, window = self.own_detectors[output - 1], case.window(self.experts[output - 1].view, click)
        width = self.foundation.embedding_width
        return bool(detector.knows(image_features(window.embedding, width).to(detector.mean))[0])

    def samples(
        self, case: CaseWindows, click: Click, asked: Sequence[int], source: tuple[str, str, int]
    ) -> Iterator[ClaimSample]:
        """One prompt as some experts would claim it.

        Args:
            case: the image.
            click: on it.
            asked: outputs.
            source: name, case id and output of where it is from.
        """
        if not asked:
            return
        nominee, scores = self.nominee(case, click)
        general, general_dice = case.answer(self.foundation.decoder, self.view, click)
        for output in asked:
            expert = self.experts[output - 1]
            mask, dice = case.answer(expert.decoder, expert.view, click)
            window, ood = case.window(expert.view, click), float(scores[output - 1])
            own_detector = self.own_detectors[output - 1]
            rests_on = claim_evidence(mask, general, expert.click_proposer, window, ood, own_detector)
            yield ClaimSample(*source, output, nominee, rests_on, general_dice, dice)


@dataclass(frozen=True, slots=True)
class DatasetPrompts:
    """Where real prompts are drawn from.

    Attributes:
        raw: the dataset.
        output: it belongs to; 0 for a general one.
        validation: cases that its own expert was not trained on; of a general dataset, to measure the risk on.
        cases: which the other experts may be asked about, and heads learn from.
        classes: to prompt.
        channel: to look at.
    """

    raw: RawDataset
    output: int
    validation: tuple[str, ...]
    cases: tuple[str, ...]
    classes: tuple[int, ...]
    channel: int

    def of_cases(self, cases: Sequence[str]) -> list[object]:
        """What prompts on some of its cases depend on."""
        files = [(case.images[self.channel], case.label) for case in map(self.raw.case, cases)]
        hashes = [sha256_file(path) for pair in files for path in pair if path is not None]
        return [self.raw.name, self.output, list(self.classes), self.channel, list(cases), hashes]

    def opened(self, case_id: str, panel: Panel) -> CaseWindows:
        """One case."""
        case = self.raw.case(case_id)
        assert case.label is not None, case_id
        image, labels = read_volume(case.images[self.channel]), read_label_map(case.label)
        return CaseWindows(image, labels, panel.foundation, panel.device)

    def click(self, case: CaseWindows, random: np.random.Generator) -> Click | None:
        """One on an object of a random class that the case has; None if it has none."""
        clicks = clicks_in(case.labels, self.classes, 1, random)
        return clicks[int(random.integers(len(clicks)))] if clicks else None


def own_samples(panel: Panel, drawn: DatasetPrompts, clicks: int, background: int, seed: int) -> Iterator[ClaimSample]:
    """Prompts on the objects of an expert's dataset, and background clicks, as that expert and the nominee claim them.

    Args:
        panel: who may answer.
        drawn: the dataset.
        clicks: over all cases and classes, about.
        background: over all cases, about.
        seed: of the clicks.
    """
    each = max(1, round(clicks / (len(drawn.validation) * len(drawn.classes))))
    beside = max(1, round(background / len(drawn.validation))) if background else 0
    view = panel.experts[drawn.output - 1].view
    for number, case_id in enumerate(drawn.validation):
        random = np.random.default_rng((seed, drawn.output, number))
        case = drawn.opened(case_id, panel)
        found = clicks_in(case.labels, drawn.classes, each, random)
        for click in (*found, *background_clicks_in(case.labels, view, beside, random)):
            nominee, _ = panel.nominee(case, click)
            asked = dict.fromkeys((drawn.output, *([nominee] if nominee != GENERAL else [])))
            yield from panel.samples(case, click, tuple(asked), (drawn.raw.name, case_id, drawn.output))


def foreign_samples(panel: Panel, drawn: DatasetPrompts, each: int, seed: int) -> Iterator[ClaimSample]:
    """Prompts on the objects of a dataset, as all other experts would claim them, known image or not.

    Args:
        panel: who may answer.
        drawn: the dataset.
        each: prompts, each on a case of its own.
        seed: of the clicks.
    """
    others = [output for output in range(1, len(panel.experts) + 1) if output != drawn.output]
    random = np.random.default_rng((seed, drawn.output, each))
    for case_id in drawn.cases[:each] if others else ():
        case = drawn.opened(case_id, panel)
        if (click := drawn.click(case, random)) is not None:
            yield from panel.samples(case, click, others, (drawn.raw.name, case_id, drawn.output))
