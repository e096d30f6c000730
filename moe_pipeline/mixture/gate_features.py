"""What the gate sees of a prompt."""

import torch
from torch import Tensor

from moe_pipeline.model.foundation import Foundation
from moe_pipeline.model.moe.gate import gate_features


def prompt_features(foundation: Foundation, embedding: Tensor, coordinates: Tensor, labels: Tensor) -> Tensor:
    """Gate features of prompts without a previous mask, exactly as prediction computes them.

    Args:
        foundation: embeds the prompts.
        embedding: (P, C, g, g, g) or (1, C, g, g, g).
        coordinates: (P, n, 3) voxels of the crop.
        labels: (P, n).

    Returns:
        (P, 5C) float32.
    """
    low = foundation.low_resolution_size
    mask = torch.zeros(len(coordinates), 1, low, low, low, device=coordinates.device)
    points = coordinates, labels
    prompts = foundation.describe_prompts(points, mask)
    return gate_features(embedding, prompts.sparse, prompts.dense, points, foundation.crop_size)
