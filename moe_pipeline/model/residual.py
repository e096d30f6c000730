"""The convolutional building block."""

from torch import Tensor, nn
from torch.nn import functional as F

from moe_pipeline.model.products import convolve

_GROUP_CHANNELS = 8


class ResidualBlock(nn.Module):
    """Two 3x3x3 convolutions beside an identity."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(channels // _GROUP_CHANNELS, channels)
        self.conv1 = nn.Conv3d(channels, channels, kernel_size=3, padding=1, bias=False)
        self.norm2 = nn.GroupNorm(channels // _GROUP_CHANNELS, channels)
        self.conv2 = nn.Conv3d(channels, channels, kernel_size=3, padding=1, bias=False)

    def forward(self, grid: Tensor) -> Tensor:
        """Map (B, C, X, Y, Z) to the same shape."""
        residual = convolve(self.conv1, F.gelu(self.norm1(grid)))
        residual = convolve(self.conv2, F.gelu(self.norm2(residual)))
        return grid + residual
