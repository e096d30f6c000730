"""From labels to grey values: means, textures at several scales, the scanner, and the normalisation of the view."""

import torch
from torch import Tensor

from moe_pipeline.synthetic import labels
from moe_pipeline.synthetic.acquisition import acquire
from moe_pipeline.synthetic.draws import Draws, Section
from moe_pipeline.synthetic.fields import along_axes, column, smooth_field
from moe_pipeline.synthetic.frame import FieldOfView

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
    means, palette = draw_background_means(numbers)
    return with_objects(numbers, means, palette, around)


def draw_background_means(numbers: Section) -> tuple[Tensor, Tensor]:
    """Means (n, 256) of all labels below those of objects, and the palette (n, colours) that they come from."""
    palette = 0.5 + (numbers.uniform(_PALETTE) - 0.5) * numbers.log_uniform(1, low=0.35, high=1.0)  # (n, _PALETTE)
    wanted = numbers.log_uniform(1, low=4, high=_PALETTE + 1)
    pick = (numbers.uniform(labels.FIRST_OBJECT) * wanted).long().clamp(max=_PALETTE - 1)
    table = palette.gather(1, pick) + 0.05 * numbers.normal(labels.FIRST_OBJECT)  # (n, FIRST_OBJECT)
    rest = table.new_zeros(len(table), labels.N_LABELS - labels.FIRST_OBJECT)
    return torch.cat([_with_extremes(numbers, table), rest], 1), palette


def with_objects(numbers: Section, means: Tensor, palette: Tensor, around: Tensor) -> Tensor:
    """Means (n, 256) with those of objects, which stand out from what is around them."""
    objects = _objects(numbers, means, palette, around)  # (n, J * _BITS)
    first = labels.FIRST_OBJECT
    return torch.cat([means[:, :first], objects, means[:, first + objects.shape[1] :]], 1)


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


_LOW, _HIGH = 0.005, 0.995  # the percentiles that the view clips to


def render(
    draws: Draws, frame: FieldOfView, painted: Tensor, means: Tensor, textured_as: Tensor | None = None
) -> Tensor:
    """Give every voxel its grey value.

    Args:
        draws: the batch's random numbers.
        frame: field of view of each sample.
        painted: (n, S, S, S) uint8 labels.
        means: (n, 256) intensity of each label.
        textured_as: (n, 256) label whose texture each label has; its own if None.

    Returns:
        (n, S, S, S) float32, normalised as by the rule zscore_clipped.
    """
    flat = painted.reshape(painted.shape[0], -1).long()
    volume = means.gather(1, flat) + _texture(draws, flat, textured_as)  # (n, S**3)
    volume = volume.reshape(painted.shape)
    image = acquire(draws, volume)
    image = _strip(draws, image, painted)
    return torch.stack([clip_and_standardise(one, box) for one, box in zip(image, frame.boxes, strict=True)])


def _texture(draws: Draws, flat: Tensor, textured_as: Tensor | None) -> Tensor:
    """(n, S**3): structure inside the labels, each label with its own strengths: coarse, middle, grain, vessels."""
    numbers = draws.section("texture")
    n, size = numbers.n, draws.white.shape[-1]
    coarse = smooth_field(numbers, 1, knots=10, spans=(2.0, 7.0)).at(size)
    middle = smooth_field(numbers, 1, knots=26, spans=(8.0, 23.0)).at(size)
    first, second = smooth_field(numbers, 2, knots=16, spans=(4.0, 13.0)).at(size).unbind(1)
    vessels = (1 - (first.square() + second.square()) * column(numbers.log_uniform(low=6, high=40))).clamp(min=0)
    strength = _strengths(numbers)
    if textured_as is not None:
        strength = strength.gather(2, textured_as[:, None].expand(-1, strength.shape[1], -1))
    texture = torch.zeros(flat.shape, device=flat.device)
    for scale, field in enumerate((coarse, middle, _grain(numbers, draws.white[:, 1:]), vessels)):
        texture += strength[:, scale].gather(1, flat) * field.reshape(n, -1)
    return texture


def _grain(numbers: Section, white: Tensor) -> Tensor:
    """(n, 1, S, S, S): white noise smoothed a little, to a standard deviation of 1."""
    voxels = torch.arange(white.shape[-1], device=white.device)
    offset = voxels[:, None] - voxels  # (S, S)
    grain = numbers.log_uniform(1, low=0.5, high=1.6) * numbers.log_uniform(3, low=0.7, high=1.5)
    kernel = torch.exp(-(offset**2) / (2 * grain[..., None, None] ** 2))  # (n, 3, S, S)
    return along_axes(white, kernel / kernel.norm(dim=-1, keepdim=True))


def _strengths(numbers: Section) -> Tensor:
    """(n, 4, 256): of the four textures in each label; the parts of an object share theirs."""
    in_image = numbers.log_uniform(4, 1, low=0.01, high=0.18)
    in_image[:, 2] *= 0.7
    in_image[:, 3] *= 5 * numbers.chance(1, p=0.35) * numbers.sign(1)
    of_label = numbers.uniform(4, labels.FIRST_OBJECT).square()
    of_object = numbers.uniform(4, labels.N_OBJECTS).square().repeat_interleave(labels.PER_OBJECT, 2)
    of_label[:, :, labels.AIR] *= numbers.chance(1, p=0.15)
    rest = of_label.new_zeros(numbers.n, 4, labels.N_LABELS - of_label.shape[2] - of_object.shape[2])
    return in_image * torch.cat([of_label, of_object, rest], 2)


def _strip(draws: Draws, image: Tensor, painted: Tensor) -> Tensor:
    """In some images the air is one constant value, as after brain extraction: dark, or even in mid-scale."""
    numbers = draws.section("targets")
    stripped = numbers.chance(p=0.3)
    fill = torch.where(numbers.chance(p=0.6), numbers.uniform(high=0.0), numbers.uniform(high=0.6))
    return torch.where((painted == labels.AIR) & column(stripped), column(fill), image)


def clip_and_standardise(image: Tensor, box: tuple[slice, slice, slice]) -> Tensor:
    """Clip to percentiles 0.5 and 99.5 of the field of view, z-score, give the padding the lowest value.

    Args:
        image: (S, S, S).
        box: field of view.

    Returns:
        (S, S, S)
    """
    inside = image[box]
    low, high = _percentiles(inside.flatten())
    inside = inside.clamp(low, high)
    mean, std = inside.mean(), inside.std(correction=0).clamp(min=1e-6)
    result = ((low - mean) / std).expand(image.shape).clone()
    result[box] = (inside - mean) / std
    return result


def _percentiles(values: Tensor) -> tuple[Tensor, Tensor]:
    """Percentiles 0.5 and 99.5, linear between neighbours, from the tails only: sorting all is slow."""
    last = values.numel() - 1
    low_place, high_place = _LOW * last, (1 - _HIGH) * last
    tail = int(low_place) + 2
    lowest = values.topk(tail, largest=False).values
    highest = values.topk(tail).values
    return (
        torch.lerp(lowest[tail - 2], lowest[tail - 1], low_place % 1),
        torch.lerp(highest[tail - 2], highest[tail - 1], high_place % 1),
    )
