"""An expert's click proposer: where it would click in a crop without prompts, and which classes it misses."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from moe_pipeline.model.layers import ChannelNorm, channels_first, channels_last, linear


@dataclass(frozen=True, slots=True)
class ClickProposerConfig:
    """Sizes of a click proposer."""

    width: int
    """C of the foundation's embeddings."""
    n_classes: int
    """Classes it looks for."""
    hidden: int = 64
    """Its own width."""
    depth: int = 2
    """Residual convolutions over the tokens."""
    upscaling: int = 2
    """Voxels of the heat map per token and axis."""


class ClickProposer(nn.Module):
    """Embedding -> for each class a distribution over the voxels of a grid and one more place: absent."""

    def __init__(self, config: ClickProposerConfig) -> None:
        super().__init__()
        self.config = config
        hidden = config.hidden
        self.enter = nn.Linear(config.width, hidden)
        self.norms = nn.ModuleList(ChannelNorm(hidden) for _ in range(config.depth))
        self.mixers = nn.ModuleList(nn.Conv3d(hidden, hidden, kernel_size=3, padding=1) for _ in range(config.depth))
        self.leave = ChannelNorm(hidden)
        self.voxels = nn.Linear(hidden, config.n_classes * config.upscaling**3)
        self.absence = nn.Linear(2 * hidden, config.n_classes)

    def forward(self, embedding: Tensor) -> Tensor:
        """Log probabilities of where to click: (B, C, *g) -> (B, K, places + 1).

        The places are those of a grid of G = upscaling * g along each axis.

        The last place is "absent". Each row is a distribution, so what the low-resolution voxels share is the chance
        of the class. Channels of the embedding beyond C, the details of low-resolution voxels, are not looked at.
        """
        grid = linear(self.enter, channels_last(embedding[:, : self.config.width]))  # (B, *g, h)
        for norm, mixer in zip(self.norms, self.mixers, strict=True):
            grid = grid + channels_last(functional.gelu(mixer(channels_first(norm(grid)))))
        grid = self.leave(grid)  # (B, *g, h)
        tokens = grid.flatten(1, 3)  # (B, tokens, h)
        absent = linear(self.absence, torch.cat((tokens.mean(1), tokens.amax(1)), dim=1))  # (B, K)
        voxels = self._fine(linear(self.voxels, grid)).flatten(2)  # (B, K, places)
        return torch.cat((voxels, absent[:, :, None]), dim=2).float().log_softmax(2)

    def _fine(self, octants: Tensor) -> Tensor:
        """(B, *g, K * u^3) -> (B, K, *G)."""
        u, grid = self.config.upscaling, octants.shape[1:4]
        octants = octants.reshape(len(octants), *grid, self.config.n_classes, u, u, u)
        sides = (u * side for side in grid)
        return octants.permute(0, 4, 1, 5, 2, 6, 3, 7).reshape(len(octants), self.config.n_classes, *sides)


def heat_maps(proposer: ClickProposer, embedding: Tensor) -> tuple[Tensor, Tensor]:
    """What a click proposer makes of embeddings (B, C, *g).

    Returns:
        Chance of each low-resolution voxel, (B, K, *G), and of absence, (B, K).
    """
    places = proposer(embedding).exp()
    sides = (proposer.config.upscaling * side for side in embedding.shape[2:])
    return places[:, :, :-1].reshape(*places.shape[:2], *sides), places[:, :, -1]


def neighbourhood(heat: Tensor) -> Tensor:
    """Chance that the click belongs into a voxel or one of its 26 neighbours; (..., X, Y, Z) -> the same shape."""
    flat = heat.reshape(-1, 1, *heat.shape[-3:])
    total = functional.avg_pool3d(flat, kernel_size=3, stride=1, padding=1, divisor_override=1)
    return total.reshape(heat.shape)


def best_place(heat: Tensor) -> Tensor:
    """The likeliest place for a click: centre of mass of the heat around the voxel whose neighbourhood is hottest.

    Args:
        heat: (N, X, Y, Z), not negative.

    Returns:
        (N, 3) fractional low-resolution voxel indices; whole numbers are the centres of low-resolution voxels.
    """
    shape = heat.shape[1:]
    index = neighbourhood(heat).flatten(1).argmax(1)  # (N,)
    centre = torch.stack(torch.unravel_index(index, shape), dim=1)  # (N, 3)
    steps = torch.cartesian_prod(*[torch.arange(-1, 2, device=heat.device)] * 3)  # (27, 3)
    voxels = centre[:, None] + steps  # (N, 27, 3)
    limits = torch.tensor(shape, device=heat.device)
    within = ((voxels >= 0) & (voxels < limits)).all(2)  # (N, 27)
    x, y, z = voxels.clamp(min=0).minimum(limits - 1).unbind(2)
    weights = torch.where(within, heat[torch.arange(len(heat), device=heat.device)[:, None], x, y, z], 0.0)
    weights = weights / weights.sum(1, keepdim=True).clamp(min=1e-30)
    return (voxels * weights[:, :, None]).sum(1)  # (N, 3)
