"""What the gate sees of a prompt."""

from torch import Tensor

from moe_pipeline.model.foundation import Foundation
from moe_pipeline.model.moe.gate import gate_features


def prompt_features(foundation: Foundation, embedding: Tensor, coordinates: Tensor, labels: Tensor) -> Tensor:
    """Gate features of prompts without a previous mask, exactly as prediction computes them.

    Args:
        foundation: embeds the prompts.
        embedding: (P, C, *grid) or (1, C, *grid).
        coordinates: (P, n, 3) voxels of the crop.
        labels: (P, n).

    Returns:
        (P, 5C) float32.
    """
    points = coordinates, labels
    prompts = foundation.describe_prompts(points)
    return gate_features(embedding, prompts.sparse, prompts.dense, points, foundation.geometry.crop_size)
