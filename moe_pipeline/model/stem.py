"""From voxels to tokens."""

from itertools import pairwise

from torch import Tensor, nn

from moe_pipeline.model.layers import channels_first, channels_last, cubes_to_tokens, linear
from moe_pipeline.model.products import convolve
from moe_pipeline.model.residual import ResidualBlock


class PatchStem(nn.Module):
    """One linear map per patch."""

    def __init__(self, *, in_chans: int, width: int, patch_size: int) -> None:
        super().__init__()
        self.proj = nn.Conv3d(in_chans, width, kernel_size=patch_size, stride=patch_size)

    def forward(self, image: Tensor) -> tuple[Tensor, None]:
        """Map (B, in, S, S, S) to tokens (B, g, g, g, width); there is nothing finer."""
        patches = cubes_to_tokens(image, self.proj.kernel_size[0])  # (B, g, g, g, in * p^3)
        return linear(self.proj, patches), None


class ConvStem(nn.Module):
    """Three stages, each halving the grid: edges and textures before the transformer sees tokens."""

    def __init__(self, *, in_chans: int, width: int, detail_chans: int = 0) -> None:
        super().__init__()
        widths = [in_chans, width // 8, width // 3, width]
        self.stages = nn.ModuleList(
            nn.Sequential(nn.Conv3d(a, b, kernel_size=3, stride=2, padding=1), ResidualBlock(b))
            for a, b in pairwise(widths)
        )
        self.detail = nn.Conv3d(widths[1], detail_chans, kernel_size=1) if detail_chans else None

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor | None]:
        """Map (B, in, S, S, S) to tokens (B, S/8, S/8, S/8, width) and details (B, D, S/2, S/2, S/2)."""
        image = image.to(next(self.parameters()).dtype)
        details = None
        for stage in self.stages:
            assert isinstance(stage, nn.Sequential)
            halve, refine = stage
            image = refine(convolve(halve, image))
            if self.detail is not None and details is None:  # the first stage has the grid of the decoder's cells
                details = channels_first(linear(self.detail, channels_last(image)))
        return channels_last(image), details
