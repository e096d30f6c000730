"""Which of several masks a first click means; an addition of ours, not in SAM-Med3D.

One click says where an object is, not how large it is. The masks for a first click are each trained on one range of
sizes; which of them fits shows in the image: whether it is alike inside the mask, and something else around it. The
predicted IoU, which comes from a single token, tells this far less well.
"""

from itertools import product

import torch
from torch import Tensor, nn
from torch.nn import functional

_HIDDEN = 128
_RING_VOXELS = 3  # of twice the edge
_SURE = 8.0  # logits beyond this say nothing more


class MaskRanker(nn.Module):
    """From masks and the features of their low-resolution voxels to a preference.

    What it looks at carries no gradient: masks are not bent so as to be chosen.

    Args:
        n_masks: to choose from.
        n_features: per low-resolution voxel.
    """

    def __init__(self, n_masks: int, n_features: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(n_masks * (3 * n_features + 4) + n_features, _HIDDEN)
        self.out = nn.Linear(_HIDDEN, n_masks)

    def forward(self, logits: Tensor, features: Tensor) -> Tensor:
        """Log-odds of each mask.

        Args:
            logits: (P, m, l, l, l), low resolution.
            features: (P, l, l, l, C).

        Returns:
            (P, m).
        """
        described = self._describe(logits.detach().float(), features.detach())
        preference: Tensor = self.out(functional.gelu(self.hidden(described)))
        return preference

    @staticmethod
    def _describe(logits: Tensor, features: Tensor) -> Tensor:
        """Size and sureness of each mask, mean and spread of the features inside, their mean around and everywhere."""
        inside = logits.sigmoid()  # (P, m, l, l, l)
        coarse = _coarse(inside)  # (P, m, l/2, l/2, l/2)
        around = functional.avg_pool3d(coarse, _RING_VOXELS, stride=1, padding=_RING_VOXELS // 2) * (1 - coarse)
        rows = _coarse(features.permute(0, 4, 1, 2, 3)).flatten(2).transpose(1, 2).float()  # (P, l^3 / 8, C)
        within, nearby = _share(coarse), _share(around)  # (P, m, l^3 / 8)
        mean = within @ rows  # (P, m, C)
        spread = (within @ rows.square() - mean.square()).clamp(min=0).sqrt()
        pooled = [_normalised(part) for part in (mean, spread, nearby @ rows)]
        binary = (logits > 0).float()
        agreement = 2 * (binary * inside).flatten(2).sum(2) / (binary + inside).flatten(2).sum(2).clamp(min=1)
        scalars = [
            agreement,
            (binary.flatten(2).mean(2) + 1e-5).log() / 4,
            (inside.flatten(2).mean(2) + 1e-5).log() / 4,
            logits.clamp(-_SURE, _SURE).abs().flatten(2).mean(2) / _SURE,
        ]
        of_masks = torch.cat([torch.stack(scalars, dim=2), *pooled], dim=2)  # (P, m, 4 + 3 C)
        return torch.cat([of_masks.flatten(1), _normalised(rows.mean(1))], dim=1)


def _coarse(grid: Tensor) -> Tensor:
    """Mean of each eight voxels, (P, C, l, l, l) -> (P, C, l/2, l/2, l/2): torch's pooling is slow."""
    total = grid.new_zeros(())
    for i, j, k in product((0, 1), repeat=3):
        total = total + grid[..., i::2, j::2, k::2]
    return total / 8


def _share(weights: Tensor) -> Tensor:
    """(P, m, ...) -> (P, m, low-resolution voxels), summing to 1."""
    flat = weights.flatten(2)
    return flat / flat.sum(2, keepdim=True).clamp(min=1e-3)


def _normalised(features: Tensor) -> Tensor:
    return functional.layer_norm(features, features.shape[-1:])
