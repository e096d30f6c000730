"""Experts on disk."""

import copy
from pathlib import Path

from moe_pipeline.errors import CheckpointError
from moe_pipeline.model.foundation import Foundation
from moe_pipeline.model.sam.mask_decoder import MaskDecoder
from moe_pipeline.paths import ExpertFolder
from moe_pipeline.records.experts import ExpertCard
from moe_pipeline.weights.tensors import load_tensors


def load_decoder(folder: Path, card: ExpertCard, foundation: Foundation) -> MaskDecoder:
    """A finetuned decoder, frozen, on the foundation's device.

    Args:
        folder: with expert.safetensors.
        card: its expert.json.
        foundation: it was finetuned on.

    Raises:
        CheckpointError: if its tensors are missing, damaged or not exactly a decoder's.
    """
    tensors = load_tensors(ExpertFolder(folder).weights, card.weights_sha256)
    decoder = copy.deepcopy(foundation.mask_decoder)
    expected = set(decoder.state_dict())
    if set(tensors) != expected:
        raise CheckpointError(
            f"{folder}: not this foundation's decoder: missing {sorted(expected - set(tensors))[:3]}, "
            f"unexpected {sorted(set(tensors) - expected)[:3]}"
        )
    decoder.load_state_dict(tensors)
    return decoder.requires_grad_(False).eval()
