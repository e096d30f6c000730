"""Where the clicks are, said to every token directly; an addition of ours, off in SAM-Med3D's configuration."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from moe_pipeline.model.layers import channels_first

_REACHES = (0.5, 1.0, 2.0, 4.0)  # in tokens: how far a click is felt
_FEATURES = len(_REACHES) + 3


class ClickField(nn.Module):
    """Adds to each token how near the clicks inside and outside the object are, and in which direction.

    Upstream's decoder learns what is near a click only through attention between sines. A network that is trained for
    hours, not weeks, needs to be told.

    Args:
        width: C.
        grid_size: tokens along each axis.
        patch_size: voxels behind one token along each axis.
        hidden: width of the hidden layer.
    """

    def __init__(self, width: int, grid_size: int, patch_size: int, hidden: int = 64) -> None:
        super().__init__()
        self.grid_size = grid_size
        self.patch_size = patch_size
        self.lin1 = nn.Linear(2 * _FEATURES, hidden)
        self.lin2 = nn.Linear(hidden, width)

    def forward(self, coordinates: Tensor, labels: Tensor) -> Tensor:
        """Encode clicks for all tokens.

        Args:
            coordinates: (P, n, 3) voxels of the cube.
            labels: (P, n), 1 inside, 0 outside, others ignored.

        Returns:
            (P, C, g, g, g).
        """
        size = self.grid_size
        index = torch.arange(size, device=coordinates.device, dtype=torch.float32)
        centres = torch.cartesian_prod(index, index, index)  # (g^3, 3) in tokens
        clicks = (coordinates.float() + 0.5) / self.patch_size - 0.5  # (P, n, 3) in tokens
        offset = centres - clicks[:, :, None]  # (P, n, g^3, 3)
        squared = offset.square().sum(-1, keepdim=True)  # (P, n, g^3, 1)
        near = torch.cat([torch.exp(-squared / (2 * reach**2)) for reach in _REACHES], dim=-1)  # (P, n, g^3, 4)
        felt = torch.cat([near, offset * near[..., 1:2]], dim=-1)  # (P, n, g^3, 7)
        signs = torch.stack([labels == 1, labels == 0], dim=-1).to(felt.dtype)  # (P, n, 2)
        both = torch.einsum("pnkf,pns->pksf", felt, signs).flatten(2)  # (P, g^3, 14)
        field: Tensor = self.lin2(functional.gelu(self.lin1(both)))  # (P, g^3, C)
        return channels_first(field.reshape(len(field), size, size, size, -1))  # (P, C, g, g, g)
