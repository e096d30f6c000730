"""From tokens back up: what the embedding tells of each low-resolution voxel; an addition of ours.

The stem's own features know edges and textures, the tokens know what they belong to. A path up, as in a U-Net, joins
them once per image, so that no prompt has to.
"""

from torch import Tensor, nn

from moe_pipeline.model.cpu_kernels import convolve
from moe_pipeline.model.nano.residual import GROUP_CHANNELS, LeanBlock


class Pyramid(nn.Module):
    """Joins tokens with the stem's two finer grids.

    Args:
        width: channels of the tokens.
        middle: channels of the stem's second stage.
        fine: channels of its first.
        n_out: features per low-resolution voxel.
    """

    def __init__(self, *, width: int, middle: int, fine: int, n_out: int) -> None:
        super().__init__()
        self.up2 = nn.ConvTranspose3d(width, middle, kernel_size=2, stride=2)
        self.middle = LeanBlock(middle)
        self.up1 = nn.ConvTranspose3d(middle, n_out, kernel_size=2, stride=2)
        self.skip = nn.Conv3d(fine, n_out, kernel_size=1)
        self.fine = LeanBlock(n_out)
        self.norm = nn.GroupNorm(n_out // GROUP_CHANNELS, n_out)

    def forward(self, tokens: Tensor, middle: Tensor, fine: Tensor) -> Tensor:
        """Features of low-resolution voxels, each group of them of mean 0 and variance 1 at first.

        Args:
            tokens: (B, width, g, g, g).
            middle: (B, middle, 2 g, 2 g, 2 g).
            fine: (B, fine, 4 g, 4 g, 4 g).

        Returns:
            (B, n_out, 4 g, 4 g, 4 g).
        """
        middle = self.middle(middle + self.up2(tokens))
        features: Tensor = self.norm(self.fine(self.up1(middle) + convolve(self.skip, fine)))
        return features
