"""The gate: who answers, decided from image and prompt embeddings; and the OOD detector of each expert."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from moe_pipeline.model.geometry import Sides

N_FEATURE_GROUPS = 5
N_IMAGE_GROUPS = 2
"""The first groups describe the image alone: what the OOD detectors look at."""

_SMALLEST_SCALE = 1e-6  # of a feature that never changes


def gate_features(
    embedding: Tensor, sparse: Tensor, dense: Tensor, points: tuple[Tensor, Tensor], size: Sides
) -> Tensor:
    """What the gate sees of one prompt.

    The paper names image and prompt embeddings without saying how they are pooled. Ours are, each of width C: mean
    and standard deviation of the image embedding over the grid, the mean image embedding at the clicks inside the
    object (at all clicks where there is none), the mean sparse prompt embedding, and the mean dense prompt embedding.

    Args:
        embedding: (P, C, *grid), or (1, C, *grid) shared by all prompts; channels beyond C, the details of
            low-resolution voxels, are not looked at.
        sparse: (P, n, C), every token of the prompt.
        dense: (P, C, *grid), or broadcastable to it; channels as of the embedding.
        points: coordinates (P, n, 3), voxels of the crop in tensor axis order, and labels (P, n), 1 inside.
        size: voxels of the crop.

    Returns:
        (P, 5C) float32.
    """
    coordinates, labels = points
    prompts, width = len(coordinates), sparse.shape[2]
    image = embedding[:, :width].float().expand(prompts, -1, -1, -1, -1)
    flat = image.flatten(2)  # (P, C, tokens)
    edges = torch.tensor(size, dtype=torch.float32, device=coordinates.device)
    place = 2 * (coordinates.float() + 0.5) / edges - 1  # (P, n, 3) in (-1, 1)
    place = place.flip(-1)[:, :, None, None]  # (P, n, 1, 1, 3), last axis first as grid_sample wants
    at_clicks = functional.grid_sample(image, place, mode="bilinear", padding_mode="border", align_corners=False)
    inside = (labels == 1) | (labels != 1).all(1, keepdim=True)  # (P, n)
    share = inside / inside.sum(1, keepdim=True)  # (P, n)
    groups = (
        flat.mean(2),
        flat.std(2),
        (at_clicks.flatten(2) * share[:, None]).sum(2),
        sparse.float().mean(1),
        dense[:, :width].float().flatten(2).mean(2),
    )
    return torch.cat(groups, dim=1)  # (P, 5C)


def image_features(embedding: Tensor, width: int) -> Tensor:
    """What describes an image alone: mean and standard deviation over the grid of the first `width` channels.

    Args:
        embedding: (B, C, *grid).
        width: channels that are looked at.

    Returns:
        (B, 2 width) float32.
    """
    flat = embedding[:, :width].float().flatten(2)  # (B, width, tokens)
    return torch.cat((flat.mean(2), flat.std(2)), dim=1)


@dataclass(frozen=True, slots=True)
class GateConfig:
    """Sizes of a gate."""

    width: int
    """C of the foundation's embeddings."""
    n_experts: int
    """Experts besides the general one."""
    hidden: int = 128
    """Width of the hidden layer."""


class Gate(nn.Module):
    """Standardised features -> LayerNorm -> MLP -> weights over {general, expert 1..N}."""

    centre: Tensor
    scale: Tensor
    temperature: Tensor

    def __init__(self, config: GateConfig) -> None:
        super().__init__()
        self.config = config
        features = N_FEATURE_GROUPS * config.width
        self.norm = nn.LayerNorm(features)
        self.hidden = nn.Linear(features, config.hidden)
        self.out = nn.Linear(config.hidden, config.n_experts + 1)
        self.register_buffer("centre", torch.zeros(features))
        self.register_buffer("scale", torch.ones(features))
        self.register_buffer("temperature", torch.ones(()))

    def standardise(self, centre: Tensor, scale: Tensor) -> None:
        """Give every feature the same say, whatever its range: (5C,) each, of the training prompts."""
        self.centre.copy_(centre)
        self.scale.copy_(scale.clamp(min=_SMALLEST_SCALE))

    def forward(self, features: Tensor) -> Tensor:
        """Logits over {general, 1..N}, before the temperature: (P, 5C) -> (P, N + 1)."""
        standardised = (features - self.centre) / self.scale  # (P, 5C)
        hidden = functional.gelu(self.hidden(self.norm(standardised)))  # (P, hidden)
        logits: Tensor = self.out(hidden)  # (P, N + 1)
        return logits

    def weights(self, features: Tensor) -> Tensor:
        """Calibrated probabilities, (P, N + 1), each row summing to 1."""
        logits: Tensor = self(features) / self.temperature
        return logits.softmax(1)


class OODDetector(nn.Module):
    """A shrunken Gaussian over the image features of one expert's own crops.

    Its distance is Mahalanobis' in a basis of principal directions. What is farther than `limit` is out of
    distribution. It sees the first values of the features only, those that describe the image: where somebody
    clicked says little about whose image it is, and varies so much that it would hide what does.

    Args:
        features: how many values it looks at.
        rank: principal directions.
    """

    mean: Tensor
    whitener: Tensor
    residual_scale: Tensor
    limit: Tensor

    def __init__(self, features: int, rank: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("whitener", torch.zeros(features, rank))
        self.register_buffer("residual_scale", torch.ones(()))
        self.register_buffer("limit", torch.zeros(()))

    @classmethod
    @torch.no_grad()
    def fit(cls, samples: Tensor, rank: int, shrinkage: float = 0.1) -> "OODDetector":
        """Fit to the features of an expert's training prompts; the limit still has to be set.

        Args:
            samples: (n, F), n >= 2: the image part of the gate's features.
            rank: principal directions kept (at most n - 1 and F).
            shrinkage: share of the mean variance mixed into each direction's.
        """
        rank = min(rank, len(samples) - 1, samples.shape[1])
        ood_detector = cls(samples.shape[1], rank)
        samples = samples.double()
        mean = samples.mean(0)
        centred = samples - mean
        _, singular, directions = torch.linalg.svd(centred, full_matrices=False)
        variances = singular.square() / (len(samples) - 1)
        kept, dropped = variances[:rank], variances[rank:].sum() / max(1, samples.shape[1] - rank)
        shrunken = (1 - shrinkage) * kept + shrinkage * kept.mean()
        ood_detector.mean.copy_(mean)
        ood_detector.whitener.copy_(directions[:rank].T / shrunken.sqrt())
        ood_detector.residual_scale.copy_((dropped + shrinkage * kept.mean()).sqrt())
        return ood_detector

    def distance(self, features: Tensor) -> Tensor:
        """Root mean squared standardised deviation, at most about 1 on the training features: (P, >= F) -> (P,)."""
        centred = features[:, : len(self.mean)].float() - self.mean  # (P, F)
        inside = centred @ self.whitener  # (P, rank)
        basis = functional.normalize(self.whitener, dim=0)
        outside = centred - (centred @ basis) @ basis.T  # (P, F)
        rank, rest = inside.shape[1], max(1, centred.shape[1] - inside.shape[1])
        parts = inside.square().sum(1) / rank, (outside / self.residual_scale).square().sum(1) / rest
        return torch.stack(parts).amax(0).sqrt()  # (P,)

    def knows(self, features: Tensor) -> Tensor:
        """True where the prompt's image looks like the expert's own, (P,) bool."""
        return self.distance(features) <= self.limit
