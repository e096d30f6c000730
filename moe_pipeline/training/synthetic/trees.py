"""A branching tree of capsules, like vessels or airways."""

import torch
from torch import Tensor

from moe_pipeline.training.synthetic.draws import Section
from moe_pipeline.training.synthetic.frame import Frame

_GENERATIONS = 4  # 1 + 2 + 4 + 8 segments


def tree_level(numbers: Section, frame: Frame, size: int) -> Tensor:
    """Draw one tree per sample.

    Args:
        numbers: where the random numbers come from.
        frame: field of view and warp of each sample.
        size: voxels per edge.

    Returns:
        (n, size, size, size): negative inside, -1 on the axes.
    """
    starts, steps, radii = _segments(numbers, frame)
    n = radii.shape[0]
    places = frame.coordinates(size).reshape(n, 3, -1)  # (n, 3, size**3)
    along = torch.baddbmm(-(starts * steps).sum(-1, keepdim=True), steps, places)  # (n, count, size**3)
    length2 = steps.square().sum(-1, keepdim=True)
    foot = (along / length2).clamp(0, 1)
    to_start2 = torch.baddbmm(starts.square().sum(-1, keepdim=True), starts, places, alpha=-2)
    to_start2 = to_start2 + places.square().sum(1, keepdim=True)
    distance2 = (to_start2 - 2 * foot * along + foot.square() * length2).clamp(min=0)
    level = distance2.sqrt() / radii[..., None] - 1
    return level.amin(1).reshape(n, size, size, size)


def _segments(numbers: Section, frame: Frame) -> tuple[Tensor, Tensor, Tensor]:
    """Start points (n, m, 3), steps (n, m, 3) and radii (n, m) of all segments, generation by generation."""
    scale = frame.scale[:, :, None]  # (n, 1, 1)
    start = frame.centre[:, None] + frame.half[:, None] * numbers.uniform(1, 3, low=-0.9, high=0.9)
    towards = frame.centre[:, None] - start + 0.3 * scale * numbers.normal(1, 3)
    heading = towards / towards.norm(dim=-1, keepdim=True).clamp(min=1e-3)
    length = numbers.uniform(1, 1, low=0.35, high=0.75) * scale
    radius = (numbers.log_uniform(1, low=0.04, high=0.16) * scale[..., 0]).clamp(min=3.4 / frame.size)
    spread = numbers.uniform(1, 1, low=0.3, high=0.9)
    starts, steps, radii = [], [], []
    for _ in range(_GENERATIONS):
        step = heading * length
        starts.append(start)
        steps.append(step)
        radii.append(radius)
        start = (start + step).repeat_interleave(2, 1)
        heading = heading.repeat_interleave(2, 1)
        heading = heading + spread * numbers.normal(heading.shape[1], 3)
        heading = heading / heading.norm(dim=-1, keepdim=True).clamp(min=1e-3)
        radius = (radius * 0.8).clamp(min=2.6 / frame.size).repeat_interleave(2, 1)
        length = length * 0.8
    return torch.cat(starts, 1), torch.cat(steps, 1), torch.cat(radii, 1)
