"""A small U-Net on the decoder's low-resolution voxels; an addition of ours, not in SAM-Med3D.

Attention finds the object; where exactly it ends is a matter of neighbouring low-resolution voxels, which
convolutions learn from far fewer examples.
"""

from torch import Tensor, nn

from moe_pipeline.model.cpu_kernels import convolve
from moe_pipeline.model.layers import channels_first, channels_last, linear
from moe_pipeline.model.nano.residual import LeanBlock

_WIDTHS = (16, 64, 96)


class RefinementUNet(nn.Module):
    """Adds to the features of each low-resolution voxel what its surroundings say; at first it adds nothing.

    Args:
        n_in: features per low-resolution voxel: the decoder's upscaled ones, and the details of image and prompt.
        n_out: of the decoder's upscaled features.
    """

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        fine, middle, coarse = _WIDTHS
        self.enter = nn.Conv3d(n_in, fine, kernel_size=1)
        self.down1 = nn.Conv3d(fine, middle, kernel_size=2, stride=2)
        self.middle = LeanBlock(middle)
        self.down2 = nn.Conv3d(middle, coarse, kernel_size=2, stride=2)
        self.coarse = nn.Sequential(LeanBlock(coarse), LeanBlock(coarse))
        self.up2 = nn.ConvTranspose3d(coarse, middle, kernel_size=2, stride=2)
        self.middle_again = LeanBlock(middle)
        self.up1 = nn.ConvTranspose3d(middle, fine, kernel_size=2, stride=2)
        self.fine = LeanBlock(fine)
        self.leave = nn.Conv3d(fine, n_out, kernel_size=1)
        nn.init.zeros_(self.leave.weight)
        assert self.leave.bias is not None
        nn.init.zeros_(self.leave.bias)

    def forward(self, voxels: Tensor) -> Tensor:
        """Map (P, l, l, l, n_in) to (P, l, l, l, n_out); l is a multiple of 4."""
        fine = channels_first(linear(self.enter, voxels))  # (P, 16, l, l, l)
        middle = self.middle(convolve(self.down1, fine))  # (P, 64, l/2, l/2, l/2)
        coarse = self.coarse(convolve(self.down2, middle))  # (P, 96, l/4, l/4, l/4)
        middle = self.middle_again(middle + self.up2(coarse))
        fine = self.fine(fine + self.up1(middle))
        return linear(self.leave, channels_last(fine))
