"""How bright each label is: shared, near and far values, as in MR or as in CT."""

import torch
from torch import Tensor

from moe_pipeline.training.synthetic import labels
from moe_pipeline.training.synthetic.draws import Section

_PALETTE = 8
_J = labels.N_OBJECTS
_BITS = labels.PER_OBJECT


def intensity_table(numbers: Section, around: Tensor) -> Tensor:
    """Draw the mean intensity of each label.

    Soft tissue lies about between 0 and 1; air, lung and bone may lie far outside.

    Args:
        numbers: where the random numbers come from.
        around: (n, J) label that surrounds each object.

    Returns:
        (n, 256)
    """
    n, base = around.shape[0], labels.FIRST_OBJECT
    palette = 0.5 + (numbers.uniform(_PALETTE) - 0.5) * numbers.log_uniform(1, low=0.35, high=1.0)  # (n, _PALETTE)
    wanted = numbers.log_uniform(1, low=4, high=_PALETTE + 1)
    pick = (numbers.uniform(base) * wanted).long().clamp(max=_PALETTE - 1)
    table = palette.gather(1, pick) + 0.05 * numbers.normal(base)  # (n, base)
    table = _with_extremes(numbers, table)
    objects = _objects(numbers, table, palette, around)  # (n, J * _BITS)
    rest = table.new_zeros(n, labels.N_LABELS - base - objects.shape[1])
    return torch.cat([table, objects, rest], 1)  # (n, 256)


def _with_extremes(numbers: Section, table: Tensor) -> Tensor:
    """Air, lung, fat, fluid and bone: as in CT (a third), darkest air as in MR (half), or as drawn."""
    kind = numbers.uniform(1)
    as_ct, as_mr = kind < 0.35, (kind >= 0.35) & (kind < 0.88)
    reach = numbers.log_uniform(1, low=1.5, high=7.0)
    air = torch.where(as_ct, -reach, torch.where(as_mr, numbers.uniform(1, low=-0.35, high=0.1), table[:, :1]))
    lung = torch.where(as_ct, -reach * numbers.uniform(1, low=0.5, high=0.9), air + numbers.uniform(1, high=0.25))
    fat = numbers.uniform(1, low=-0.6, high=0.0)
    bone = numbers.log_uniform(1, low=1.3, high=5.0)
    dark_bone = numbers.uniform(1, low=-0.2, high=0.3)
    table = table.clone()
    table[:, labels.AIR] = air[:, 0]
    table[:, labels.LUNG] = torch.where(as_ct | as_mr, lung, table[:, labels.LUNG, None])[:, 0]
    for fatty in (labels.FAT, labels.FILLING):
        table[:, fatty] = torch.where(as_ct, fat, table[:, fatty, None] + 0.4 * as_mr)[:, 0]
    for hard in (labels.BONE, labels.SKULL):
        table[:, hard] = torch.where(as_ct, bone, torch.where(as_mr, dark_bone, table[:, hard, None]))[:, 0]
    return table


def _objects(numbers: Section, table: Tensor, palette: Tensor, around: Tensor) -> Tensor:
    """(n, J * 8): near or far from what surrounds the object, or like some other tissue; inner parts likewise."""
    n = table.shape[0]
    ground = table.gather(1, around)  # (n, J)
    contrast = numbers.log_uniform(_J, low=0.15, high=1.1) * numbers.sign(_J)
    like_other = palette[:, :_J] + numbers.uniform(_J, low=-0.08, high=0.08)
    value = torch.where(numbers.chance(_J, p=0.3), like_other, ground + contrast)
    extreme = ground + numbers.log_uniform(_J, low=1.0, high=5.0) * numbers.sign(_J, p_positive=0.65)
    value = torch.where(numbers.chance(_J, p=0.07), extreme, value)
    value[:, labels.TWIN] = value[:, labels.MAIN] + 0.02 * numbers.normal()
    bits = torch.arange(_BITS, device=table.device)
    inner = numbers.log_uniform(_J, 3, low=0.15, high=0.8) * numbers.sign(_J, 3)  # core, second part, centre
    inner[:, :, 1] *= numbers.chance(_J, p=0.25) * 0.3  # halves mostly differ by position alone
    inner[:, labels.TWIN] = inner[:, labels.MAIN]
    has = torch.stack([(bits & bit > 0).float() for bit in (1, 2, 4)], -1)  # (8, 3)
    return (value[..., None] + inner @ has.T).reshape(n, _J * _BITS)
