"""From labels to grey values: means, textures at several scales, the scanner, and the normalisation of the view."""

import torch
from torch import Tensor

from moe_pipeline.training.synthetic import labels
from moe_pipeline.training.synthetic.acquisition import acquire
from moe_pipeline.training.synthetic.draws import Draws, Section
from moe_pipeline.training.synthetic.fields import along_axes, column, smooth_field
from moe_pipeline.training.synthetic.frame import Frame
from moe_pipeline.training.synthetic.intensities import intensity_table

_LOW, _HIGH = 0.005, 0.995  # the percentiles that the view clips to


def render(draws: Draws, frame: Frame, painted: Tensor, around: Tensor) -> Tensor:
    """Give every voxel its grey value.

    Args:
        draws: the batch's random numbers.
        frame: field of view of each sample.
        painted: (n, S, S, S) uint8 labels.
        around: (n, J) label that surrounds each object.

    Returns:
        (n, S, S, S) float32, normalised as by the rule zscore_clipped.
    """
    flat = painted.reshape(painted.shape[0], -1).long()
    means = intensity_table(draws.section("table"), around)  # (n, 256)
    volume = means.gather(1, flat).reshape(painted.shape) + _texture(draws, flat).reshape(painted.shape)
    image = acquire(draws, volume)
    image = _strip(draws, image, painted)
    return torch.stack([normalise(one, box) for one, box in zip(image, frame.boxes, strict=True)])


def _texture(draws: Draws, flat: Tensor) -> Tensor:
    """(n, S**3): structure inside the labels, each label with its own strengths: coarse, middle, grain, vessels."""
    numbers = draws.section("texture")
    n, size = numbers.n, draws.white.shape[-1]
    coarse = smooth_field(numbers, 1, knots=10, spans=(2.0, 7.0)).at(size)
    middle = smooth_field(numbers, 1, knots=26, spans=(8.0, 23.0)).at(size)
    first, second = smooth_field(numbers, 2, knots=16, spans=(4.0, 13.0)).at(size).unbind(1)
    vessels = (1 - (first.square() + second.square()) * column(numbers.log_uniform(low=6, high=40))).clamp(min=0)
    strength = _strengths(numbers)
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


def normalise(image: Tensor, box: tuple[slice, slice, slice]) -> Tensor:
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
