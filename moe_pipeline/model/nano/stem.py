"""From voxels to tokens."""

from itertools import pairwise

from torch import Tensor, nn

from moe_pipeline.model.cpu_kernels import convolve
from moe_pipeline.model.layers import channels_last, cubes_to_tokens, linear
from moe_pipeline.model.nano.residual import ResidualBlock


class PatchStem(nn.Module):
    """One linear map per patch."""

    def __init__(self, *, in_chans: int, width: int, patch_size: int) -> None:
        super().__init__()
        self.proj = nn.Conv3d(in_chans, width, kernel_size=patch_size, stride=patch_size)

    def forward(self, image: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Map (B, in, S, S, S) to tokens (B, g, g, g, width); there is nothing finer."""
        patches = cubes_to_tokens(image, self.proj.kernel_size[0])  # (B, g, g, g, in * p^3)
        return linear(self.proj, patches), []


def stage_widths(width: int) -> tuple[int, int]:
    """Channels of the first two stages of a convolutional stem for tokens of `width`."""
    return width // 8, width // 3


class ConvStem(nn.Module):
    """Three stages, each halving the grid: edges and textures before the transformer sees tokens."""

    def __init__(self, *, in_chans: int, width: int) -> None:
        super().__init__()
        widths = [in_chans, *stage_widths(width), width]
        self.stages = nn.ModuleList(
            nn.Sequential(
                nn.Conv3d(a, b, kernel_size=3, stride=2, padding=1),
                ResidualBlock(b) if b < width else nn.Identity(),  # the transformer refines the last
            )
            for a, b in pairwise(widths)
        )

    def forward(self, image: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Map (B, in, S, S, S) to tokens (B, S/8, S/8, S/8, width) and the two finer grids, the finest first."""
        image = image.to(next(self.parameters()).dtype)
        grids = []
        for stage in self.stages:
            assert isinstance(stage, nn.Sequential)
            halve, refine = stage
            image = refine(convolve(halve, image))
            grids.append(image)
        return channels_last(image), grids[:-1]
