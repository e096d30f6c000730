"""How alike each low-resolution voxel is to what was clicked; an addition of ours, not in SAM-Med3D.

The oldest idea of interactive segmentation, region growing, compares every place with the clicked one. Convolutions
would have to carry the clicked place's features through the whole cube to do so. Here they are compared at once.
"""

import torch
from torch import Tensor
from torch.nn import functional

KEYS = 16
"""Of the details of each low-resolution voxel, so many first ones are compared,"""
_GROUPS = 4
"""in so many groups, each of which may learn to tell something else."""
_REFERENCES = 3
"""With their mean at clicks inside, at clicks outside, and where the previous answer is sure."""
SIMILARITIES = _GROUPS * _REFERENCES


def similarity(high_res: Tensor, clicked: Tensor) -> Tensor:
    """Similarity of voxels to the references: 1 where alike, near 0 where not, 0 where a reference does not exist.

    Args:
        high_res: (1 | P, l, l, l, D), D >= KEYS, of unit variance.
        clicked: weight of each low-resolution voxel in each reference, not negative, (P, 3, l, l, l).

    Returns:
        exp(-half the mean squared difference) per reference and group of keys, (P, l, l, l, LIKENESSES), in the dtype
        of `high_res`.
    """
    n_prompts, per_group = len(clicked), KEYS // _GROUPS
    rows = high_res[..., :KEYS].flatten(1, 3)  # (1 | P, l^3, KEYS)
    weights = clicked.flatten(2).to(rows.dtype)  # (P, 3, l^3)
    total = weights.sum(2, keepdim=True)  # (P, 3, 1)
    exists = total > 1e-3
    references = weights @ rows / total.clamp(min=1e-3)  # (P, 3, KEYS)
    # The squared difference |f|^2 - 2 f·r + |r|^2 of a group is linear in the voxel's features and their squares.
    groups = torch.eye(_GROUPS, device=rows.device, dtype=rows.dtype).repeat_interleave(per_group, 0)  # (KEYS, groups)
    lengths = rows.square() @ groups  # (1 | P, l^3, groups)
    kernels = (references[..., None] * groups).transpose(1, 2).flatten(2)  # (P, KEYS, 3 * groups)
    offsets = (references.square() @ groups).flatten(1)[:, None]  # (P, 1, 3 * groups)
    squared = lengths.repeat(1, 1, _REFERENCES) - 2 * rows @ kernels + offsets  # (P, l^3, 3 * groups)
    alike = torch.exp(-functional.relu(squared) / (2 * per_group))
    alike = alike * exists.repeat_interleave(_GROUPS, 1).transpose(1, 2)
    return alike.reshape(n_prompts, *high_res.shape[1:4], SIMILARITIES)
