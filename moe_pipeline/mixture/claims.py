"""What two decoders and a click proposer make of one prompt: evidence, the same in training and in prediction."""

from dataclasses import dataclass

import torch
from torch import Tensor

from moe_pipeline.mixture.click_proposer import ExpertClickProposer
from moe_pipeline.model.foundation import Decoder, Foundation
from moe_pipeline.model.moe.claim import FirstMask, ProposedClicks, evidence
from moe_pipeline.model.moe.gate import N_IMAGE_GROUPS, OODDetector, image_features
from moe_pipeline.records.foundation import Spacing


@dataclass(frozen=True, slots=True)
class PromptWindow:
    """A crop that shows a prompt.

    Attributes:
        embedding: (1, C, *grid).
        click: (3,) voxels of the crop, in tensor axis order: the first click, inside the object.
        spacing_mm: edges of a voxel along x, y and z.
    """

    embedding: Tensor
    click: Tensor
    spacing_mm: Spacing


@torch.no_grad()
def first_mask(foundation: Foundation, decoder: Decoder, window: PromptWindow) -> FirstMask:
    """A decoder's answer to the first click, without any earlier mask; on the CPU."""
    device, sides = window.embedding.device, foundation.geometry
    labels = torch.ones(1, 1, dtype=torch.long, device=device)
    points = window.click.to(device).float()[None, None], labels  # (1, 1, 3), (1, 1)
    prompts = foundation.embed_turn(points, torch.zeros(1, 1, *sides.low_resolution_size, device=device))
    logits, iou = decoder.decode(decoder.prepare(window.embedding), prompts).answer()
    click = window.click.cpu().float()
    return FirstMask(logits[0, 0].float().cpu(), float(iou[0, 0]), click, window.spacing_mm, sides.crop_size)


def claim_evidence(
    expert: FirstMask,
    general: FirstMask,
    proposer: ExpertClickProposer | None,
    window: PromptWindow,
    ood_score: float,
    own_detector: OODDetector,
) -> Tensor:
    """The evidence of one prompt for one expert, (E,).

    Args:
        expert: its first answer.
        general: the general expert's.
        proposer: the expert's, if it has one.
        window: in the expert's view.
        ood_score: the expert's in the foundation's view.
        own_detector: its OOD detector in its own view.
    """
    proposal = None if proposer is None else ProposedClicks(*proposer.look(window.embedding))
    image = image_features(window.embedding, len(own_detector.mean) // N_IMAGE_GROUPS)
    own_score = float(own_detector.distance(image.to(own_detector.mean))[0] / own_detector.limit)
    return evidence(expert, general, proposal, (ood_score, own_score))
