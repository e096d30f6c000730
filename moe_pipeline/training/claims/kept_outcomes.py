"""What experts make of prompts, kept on disk, each expert by itself.

So a gate training that was stopped goes on where it was, and a gate over other experts computes only what is new.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from moe_pipeline.files import sha256_json
from moe_pipeline.model.moe.claim import EVIDENCE
from moe_pipeline.training.claims.panel import Panel
from moe_pipeline.training.claims.prompted_images import OpenedImage, PromptedImage
from moe_pipeline.training.interactive.case_windows import CORRECTIONS, PromptDice
from moe_pipeline.weights.tensors import kept_tensors


class ClaimOutcome(NamedTuple):
    """What an expert makes of one prompt."""

    evidence: Tensor
    """(E,) for its claim."""
    general: PromptDice
    """Of the general expert; NaN for a background click."""
    expert: PromptDice
    """Of itself."""


@dataclass(frozen=True, slots=True)
class KeptOutcomes:
    """Outcomes on disk.

    Attributes:
        folder: where they lie.
        general: hash of foundation and view.
        experts: hash of all that each expert's outcomes depend on besides, in the order of the outputs.
    """

    folder: Path
    general: str
    experts: tuple[str, ...]

    @classmethod
    def of(cls, panel: Panel, folder: Path) -> "KeptOutcomes":
        """Those of a panel's experts."""
        detectors = panel.router.all_detectors()
        hashes = []
        for expert, detector, own_detector in zip(panel.experts, detectors, panel.own_detectors, strict=True):
            nets = [
                expert.decoder,
                detector,
                own_detector,
                *([expert.click_proposer.net] if expert.click_proposer else []),
            ]
            hashes.append(
                sha256_json([[_weights_sha256(net) for net in nets], expert.view.model_dump(), EVIDENCE, CORRECTIONS])
            )
        return cls(folder, sha256_json([_weights_sha256(panel.foundation), panel.view.model_dump()]), tuple(hashes))

    def features(self, image: PromptedImage, panel: Panel, opened: Callable[[], OpenedImage]) -> Tensor:
        """Gate features of an image's prompts, (n, 5C)."""

        def make() -> dict[str, Tensor]:
            rows = [panel.features(opened().windows, click) for click in opened().clicks]
            return {"features": torch.cat(rows) if rows else torch.empty(0, 0)}

        return self._kept([self.general, image.made_of], make)["features"]

    def outcomes(
        self,
        image: PromptedImage,
        panel: Panel,
        features: Tensor,
        opened: Callable[[], OpenedImage],
        output: int,
        *,
        screened: bool,
    ) -> Sequence[ClaimOutcome | None]:
        """What one expert makes of an image's prompts.

        Args:
            image: with its prompts.
            panel: holds the expert.
            features: (n, 5C) of the prompts.
            opened: gives the image.
            output: of the expert.
            screened: see `samples_on`.
        """

        def make() -> dict[str, Tensor]:
            found = [_outcome(panel, output, n, features[n : n + 1], opened(), screened) for n in range(len(features))]
            there = [outcome for outcome in found if outcome is not None]
            evidence = torch.stack([one.evidence for one in there]) if there else torch.empty(0, len(EVIDENCE))
            dice = torch.tensor([[one.general, one.expert] for one in there], dtype=torch.float64).reshape(-1, 2, 2)
            return {"asked": torch.tensor([one is not None for one in found]), "evidence": evidence, "dice": dice}

        tensors = self._kept([self.general, self.experts[output - 1], image.made_of, screened], make)
        rows = zip(tensors["evidence"], tensors["dice"].tolist(), strict=True)
        there = iter([ClaimOutcome(evidence, *(PromptDice(*dice) for dice in both)) for evidence, both in rows])
        return [next(there) if asked else None for asked in tensors["asked"].tolist()]

    def _kept(self, made_of: Sequence[object], make: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
        return kept_tensors(self.folder / f"{sha256_json(list(made_of))[:32]}.safetensors", make)


def _outcome(
    panel: Panel, output: int, number: int, features: Tensor, opened: OpenedImage, screened: bool
) -> ClaimOutcome | None:
    windows, click = opened.windows, opened.clicks[number]
    if screened and not panel.may_claim(windows, click, output):
        return None
    general, general_dice = opened.general_answer(number, panel.foundation.decoder, panel.view)
    evidence, expert_dice = panel.outcome(windows, click, output, general, features)
    return ClaimOutcome(evidence, general_dice, expert_dice)


def _weights_sha256(module: nn.Module) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
