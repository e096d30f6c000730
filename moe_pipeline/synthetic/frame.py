"""Where the image lies in the cube, and how coarsely the cube looks at the world."""

from dataclasses import dataclass

import torch
from torch import Tensor

from moe_pipeline.synthetic import labels
from moe_pipeline.synthetic.draws import Draws, Section
from moe_pipeline.synthetic.fields import SmoothField, column, grid, smooth_field

SCENES = ("cells", "bands", "body", "brain")
_SCENE_SHARES = (0.34, 0.14, 0.26, 0.26)
_SMALLEST_EDGE = 0.28  # of the cube


@dataclass(frozen=True, slots=True)
class FieldOfView:
    """Field of view and coordinates of each sample."""

    size: int
    """Voxels per edge of the cube."""
    scenes: list[int]
    """Index into SCENES, one per sample."""
    boxes: list[tuple[slice, slice, slice]]
    """Field of view in voxels, one per sample."""
    centre: Tensor
    """(n, 3): of the field of view; the cube reaches from -1 to 1."""
    half: Tensor
    """(n, 3): half the edges of the field of view."""
    scale: Tensor
    """(n, 1): half the edge that things are drawn to: that of the field of view, or the cube's 1."""
    warp: SmoothField
    """Three channels: displacement of the coordinates."""
    warp_strength: Tensor
    """(n, 3): in units of half the cube's edge."""

    def coordinates(self, size: int) -> Tensor:
        """(n, 3, size, size, size): warped coordinates of the voxel centres."""
        return grid(size, self.centre.device) + column(self.warp_strength) * self.warp.at(size)

    def seen(self, painted: Tensor) -> Tensor:
        """(n, S, S, S) uint8 labels with OUTSIDE for all that lies beyond the field of view."""
        inside = torch.full_like(painted, labels.OUTSIDE)
        for row, box in enumerate(self.boxes):
            inside[row][box] = painted[row][box]
        return inside


def draw_frame(draws: Draws, size: int) -> FieldOfView:
    """Choose scene, field of view and warp of every sample."""
    numbers = draws.on_cpu
    device = draws.white.device
    shares = torch.tensor(_SCENE_SHARES).cumsum(0)
    scenes = (numbers.uniform(1) > shares).sum(-1).clamp(max=len(SCENES) - 1)  # (n,)
    low, high = _field_of_view(numbers, size)  # (n, 3) each, in voxels
    boxes = [
        (slice(x0, x1), slice(y0, y1), slice(z0, z1))
        for (x0, y0, z0), (x1, y1, z1) in zip(low.tolist(), high.tolist(), strict=True)
    ]
    half = (high - low).float() / size
    follows = numbers.chance(1, p=0.85)
    scale = torch.where(follows, half.mean(-1, keepdim=True), torch.ones(numbers.n, 1))
    strength = numbers.log_uniform(1, low=0.03, high=0.2) * numbers.uniform(3, low=0.6, high=1.2)
    warp = draws.section("frame")
    return FieldOfView(
        size=size,
        scenes=scenes.tolist(),
        boxes=boxes,
        centre=((low + high).float() / size - 1).to(device),
        half=half.to(device),
        scale=scale.to(device),
        warp=smooth_field(warp, 3, knots=10, spans=(1.5, 6.0)),
        warp_strength=(strength * scale).to(device),
    )


def _field_of_view(numbers: Section, size: int) -> tuple[Tensor, Tensor]:
    """Lower and upper corner (n, 3): the whole cube, a cube that reaches beyond the image, or a small image."""
    kind = numbers.uniform(1)
    cut = numbers.uniform(3, low=0.0, high=0.42) * numbers.chance(3, p=0.4)
    cut_below = numbers.chance(3, p=0.5)
    beyond_low = torch.where(cut_below, cut, torch.zeros_like(cut))
    beyond_high = torch.where(cut_below, torch.ones_like(cut), 1 - cut)
    slab = (torch.arange(3) == (numbers.uniform(1) * 3).long()) & numbers.chance(1, p=0.25)
    cut = torch.where(slab, numbers.uniform(3, low=0.2, high=0.65), cut)
    edge = numbers.log_uniform(1, low=0.36, high=1.0) * numbers.log_uniform(3, low=0.65, high=1.5)
    edge = edge.clamp(_SMALLEST_EDGE, 1)
    place = numbers.uniform(3)
    lowest, highest = (0.5 - edge).clamp(min=0), torch.minimum(1 - edge, torch.full_like(edge, 0.5))
    small_low = lowest + (0.25 + 0.5 * place) * (highest - lowest)
    whole, beyond = kind < 0.38, kind < 0.62
    low = torch.where(whole, torch.zeros_like(cut), torch.where(beyond, beyond_low, small_low))
    high = torch.where(whole, torch.ones_like(cut), torch.where(beyond, beyond_high, small_low + edge))
    return (low * size).round().long(), (high * size).round().long()
