"""From tokens to features of low-resolution voxels: the grid is doubled twice, with a norm over all of it between."""

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F

from moe_pipeline.model.cpu_kernels import affine
from moe_pipeline.model.layers import octants
from moe_pipeline.model.segvol.config import Extent


@dataclass(frozen=True, slots=True)
class OctantUpscaling:
    """The weights by octants, put in this order once for all prompts.

    Attributes:
        first: of the first doubling, (8 * C/4, C) and (8 * C/4).
        gain, bias: of the norm, (n, 8, C/4).
        eps: of the norm.
        second: of the second doubling, (8 * C/8, C/4) and (8 * C/8).
    """

    first: tuple[Tensor, Tensor]
    gain: Tensor
    bias: Tensor
    eps: float
    second: tuple[Tensor, Tensor]

    def doubled(self, image: Tensor) -> Tensor:
        """Tokens (P, n, C) to normalised features of their octants, (P, n, 8 * C/4)."""
        features = affine(image, *self.first).reshape(*image.shape[:2], 8, -1)  # (P, n, 8, C/4)
        return F.layer_norm(features, features.shape[1:], self.gain, self.bias, self.eps).flatten(2)

    def doubled_again(self, features: Tensor) -> Tensor:
        """Normalised features of octants (P, n, 8 * C/4) to features of octants of octants, (P, 8 * n, 8 * C/8)."""
        voxels = F.gelu(features.reshape(len(features), 8 * features.shape[1], -1))  # (P, 8 * n, C/4)
        return F.gelu(affine(voxels, *self.second))


class Upscaling(nn.Sequential):
    """Its weights, under the published names.

    Args:
        width: C, channels of a token.
        grid: tokens along each axis.
    """

    def __init__(self, width: int, grid: Extent) -> None:
        d, h, w = self.grid = grid
        super().__init__(
            nn.ConvTranspose3d(width, width // 4, kernel_size=2, stride=2),
            nn.LayerNorm((width // 4, 2 * d, 2 * h, 2 * w)),
            nn.GELU(),
            nn.ConvTranspose3d(width // 4, width // 8, kernel_size=2, stride=2),
            nn.GELU(),
        )

    def by_octants(self) -> OctantUpscaling:
        """To be applied to tokens, or some of them, in any number of prompts."""
        norm = self[1]
        assert isinstance(norm, nn.LayerNorm)
        gain, bias = self._by_octant(norm.weight), self._by_octant(norm.bias)
        return OctantUpscaling(octants(self[0]), gain, bias, norm.eps, octants(self[3]))

    def _by_octant(self, values: Tensor) -> Tensor:
        """Order values of voxels (C/4, 2 d, 2 h, 2 w) by token and octant, (n, 8, C/4)."""
        d, h, w = self.grid
        ordered = values.reshape(-1, d, 2, h, 2, w, 2).permute(1, 3, 5, 2, 4, 6, 0)  # (d, h, w, 2, 2, 2, C/4)
        return ordered.reshape(d * h * w, 8, -1)
