"""A small U-Net on the decoder's low-resolution cells; an addition of ours, not in SAM-Med3D.

Attention finds the object; where exactly it ends is a matter of neighbouring cells, which convolutions learn from far
fewer examples.
"""

from torch import Tensor, nn

from moe_pipeline.model.products import convolve
from moe_pipeline.model.residual import ResidualBlock

_WIDTHS = (16, 32, 64)


class CellNetwork(nn.Module):
    """Adds to the features of each cell what its surroundings and the details say; at first it adds nothing.

    Args:
        n_in: features per cell: the decoder's upscaled ones, and the details of image and prompt.
        n_out: of the decoder's upscaled features.
    """

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        fine, middle, coarse = _WIDTHS
        self.enter = nn.Conv3d(n_in, fine, kernel_size=1)
        self.fine = ResidualBlock(fine)
        self.down1 = nn.Conv3d(fine, middle, kernel_size=2, stride=2)
        self.middle = ResidualBlock(middle)
        self.down2 = nn.Conv3d(middle, coarse, kernel_size=2, stride=2)
        self.coarse = nn.Sequential(ResidualBlock(coarse), ResidualBlock(coarse))
        self.up2 = nn.ConvTranspose3d(coarse, middle, kernel_size=2, stride=2)
        self.middle_again = ResidualBlock(middle)
        self.up1 = nn.ConvTranspose3d(middle, fine, kernel_size=2, stride=2)
        self.fine_again = ResidualBlock(fine)
        self.leave = nn.Conv3d(fine, n_out, kernel_size=1)
        nn.init.zeros_(self.leave.weight)
        assert self.leave.bias is not None
        nn.init.zeros_(self.leave.bias)

    def forward(self, cells: Tensor) -> Tensor:
        """Map (P, n_in, l, l, l) to (P, n_out, l, l, l); l is a multiple of 4."""
        fine = self.fine(convolve(self.enter, cells))  # (P, 16, l, l, l)
        middle = self.middle(convolve(self.down1, fine))  # (P, 32, l/2, l/2, l/2)
        coarse = self.coarse(convolve(self.down2, middle))  # (P, 64, l/4, l/4, l/4)
        middle = self.middle_again(middle + self.up2(coarse))
        fine = self.fine_again(fine + self.up1(middle))
        return convolve(self.leave, fine)
