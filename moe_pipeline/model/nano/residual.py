"""The convolutional building blocks."""

from torch import Tensor, nn
from torch.nn import functional as F

from moe_pipeline.model.cpu_kernels import convolve

GROUP_CHANNELS = 8
"""Channels that are normalised together."""


class ResidualBlock(nn.Module):
    """Two 3x3x3 convolutions beside an identity."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(channels // GROUP_CHANNELS, channels)
        self.conv1 = nn.Conv3d(channels, channels, kernel_size=3, padding=1, bias=False)
        self.norm2 = nn.GroupNorm(channels // GROUP_CHANNELS, channels)
        self.conv2 = nn.Conv3d(channels, channels, kernel_size=3, padding=1, bias=False)

    def forward(self, grid: Tensor) -> Tensor:
        """Map (B, C, X, Y, Z) to the same shape."""
        residual = convolve(self.conv1, F.gelu(self.norm1(grid)))
        residual = convolve(self.conv2, F.gelu(self.norm2(residual)))
        return grid + residual


class LeanBlock(nn.Module):
    """As `ResidualBlock` with one norm and one cheap activation: on large grids these cost as much as convolutions."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(channels // GROUP_CHANNELS, channels)
        self.conv1 = nn.Conv3d(channels, channels, kernel_size=3, padding=1)
        self.conv2 = nn.Conv3d(channels, channels, kernel_size=3, padding=1)

    def forward(self, grid: Tensor) -> Tensor:
        """Map (B, C, X, Y, Z) to the same shape."""
        return grid + convolve(self.conv2, F.relu(convolve(self.conv1, self.norm(grid))))
