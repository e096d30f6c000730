"""Smooth random fields and the one operation they need: a matrix along each axis."""

from dataclasses import dataclass

import torch
from torch import Tensor

from moe_pipeline.synthetic.draws import Section

_SPLINE_STD = 0.355  # of a cubic B-spline field with standard normal coefficients


def along_axes(field: Tensor, matrices: Tensor) -> Tensor:
    """Multiply each axis of a field by its own matrix.

    Args:
        field: (n, c, k, k, k).
        matrices: (n, 3, s, k), one per sample and axis.

    Returns:
        (n, c, s, s, s)
    """
    n, channels, knots = field.shape[:3]
    size = matrices.shape[2]
    along_x, along_y, along_z = (matrices[:, axis, None] for axis in range(3))  # each (n, 1, s, k)
    field = field.reshape(n, channels, knots * knots, knots) @ along_z.transpose(-1, -2)  # (n, c, k*k, s)
    field = along_y[:, None] @ field.reshape(n, channels, knots, knots, size)  # (n, c, k, s, s)
    field = along_x @ field.reshape(n, channels, knots, size * size)  # (n, c, s, s*s)
    return field.reshape(n, channels, size, size, size)


@dataclass(frozen=True, slots=True)
class SmoothField:
    """Cubic B-spline fields of mean 0 and std about 1, known at every resolution."""

    coefficients: Tensor
    """(n, c, k, k, k)"""
    start: Tensor
    """(n, 3): the crop's lower edge, in knots."""
    span: Tensor
    """(n, 3): the crop's edge, in knots: the more, the rougher."""

    def at(self, size: int) -> Tensor:
        """(n, c, size, size, size): the fields at the voxel centres of a cube of that many voxels."""
        knots = self.coefficients.shape[-1]
        steps = (torch.arange(size, device=self.start.device) + 0.5) / size  # (s,)
        places = self.start[..., None] + self.span[..., None] * steps  # (n, 3, s)
        distance = (places[..., None] - torch.arange(knots, device=self.start.device)).abs()  # (n, 3, s, k)
        near = 2 / 3 - distance**2 + distance**3 / 2
        far = (2 - distance).clamp(min=0) ** 3 / 6
        return along_axes(self.coefficients, torch.where(distance < 1, near, far)) / _SPLINE_STD


def smooth_field(numbers: Section, channels: int, knots: int, spans: tuple[float, float]) -> SmoothField:
    """Draw smooth fields whose roughness differs from sample to sample and a little from axis to axis.

    Args:
        numbers: where the random numbers come from.
        channels: number of independent fields.
        knots: crop grid points per axis.
        spans: roughest and smoothest: crop grid cells per crop edge; the higher at most knots - 3.
    """
    low, high = spans
    assert high <= knots - 3, "the crop would leave the crop grid"
    isotropic = numbers.log_uniform(1, low=low, high=high)
    span = (isotropic * numbers.log_uniform(3, low=0.7, high=1.4)).clamp(max=knots - 3)  # (n, 3)
    start = 1 + numbers.uniform(3) * (knots - 3 - span)
    return SmoothField(numbers.normal(channels, knots, knots, knots), start, span)


def grid(size: int, device: torch.device) -> Tensor:
    """(3, size, size, size): coordinates of the voxel centres, the cube reaching from -1 to 1."""
    axis = (torch.arange(size, device=device) + 0.5) * (2 / size) - 1
    return torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"))


def doubling(size: int, device: torch.device) -> Tensor:
    """(size, size // 2): linear interpolation from every second voxel's crop grid, edges held."""
    half = size // 2
    places = ((torch.arange(size, device=device) + 0.5) / 2 - 0.5).clamp(0, half - 1)  # (s,)
    return (1 - (places[:, None] - torch.arange(half, device=device)).abs()).clamp(min=0)


def rotation(numbers: Section, count: int, strength: float) -> Tensor:
    """(n, count, 3, 3): random rotations; strength 0 none, 1 any."""
    axis = numbers.normal(count, 3) * strength
    quaternion = torch.cat([torch.ones_like(axis[..., :1]) * (1.2 - strength), axis], -1)  # (n, count, 4)
    w, x, y, z = (quaternion / quaternion.norm(dim=-1, keepdim=True)).unbind(-1)
    rows = (
        (1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)),
        (2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
        (2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
    )
    return torch.stack([torch.stack(row, -1) for row in rows], -2)  # (n, count, 3, 3)


def column(values: Tensor) -> Tensor:
    """(n, ...) to (n, ..., 1, 1, 1), to meet a field."""
    return values[..., None, None, None]
