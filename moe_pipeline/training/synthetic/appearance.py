"""From labels to grey values: means, textures at several scales, the scanner, and the normalisation of the view."""

import torch
from torch import Tensor

from moe_pipeline.training.synthetic import labels
from moe_pipeline.training.synthetic.acquisition import acquire
from moe_pipeline.training.synthetic.draws import Draws
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
    """(n, S**3): structure inside the labels, coarse, middle and fine, each label with its own strengths."""
    numbers = draws.section("texture")
    n, size = numbers.n, draws.white.shape[-1]
    coarse = smooth_field(numbers, 1, knots=10, spans=(2.0, 7.0)).at(size)
    middle = smooth_field(numbers, 1, knots=26, spans=(8.0, 23.0)).at(size)
    offset = torch.arange(size, device=flat.device)[:, None] - torch.arange(size, device=flat.device)
    grain = numbers.log_uniform(1, low=0.5, high=1.6) * numbers.log_uniform(3, low=0.7, high=1.5)
    kernel = torch.exp(-(offset**2) / (2 * grain[..., None, None] ** 2))  # (n, 3, S, S)
    fine = along_axes(draws.white[:, 1:], kernel / kernel.norm(dim=-1, keepdim=True))
    overall = numbers.log_uniform(3, low=0.01, high=0.22)  # of the scales, in this image
    strength = overall[:, :, None] * numbers.uniform(3, labels.FIRST_OBJECT, high=1.0).square()  # (n, 3, FIRST_OBJECT)
    strength = torch.cat(
        [
            strength,
            overall[:, :, None] * numbers.uniform(3, labels.N_OBJECTS).square().repeat_interleave(labels.PER_OBJECT, 2),
            strength[:, :, : labels.N_LABELS - labels.FIRST_OBJECT - labels.N_OBJECTS * labels.PER_OBJECT],
        ],
        2,
    )
    strength[:, :, labels.AIR] *= numbers.chance(1, p=0.15)
    texture = torch.zeros(flat.shape, device=flat.device)
    for scale, field in enumerate((coarse, middle, fine)):
        texture += strength[:, scale].gather(1, flat) * field.reshape(n, -1)
    return texture


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
