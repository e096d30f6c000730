"""What a scanner does to a volume: blur, thick slices, ringing, ghosts, bias field, noise, gamma."""

import torch
from torch import Tensor

from moe_pipeline.synthetic.draws import Draws, Section
from moe_pipeline.synthetic.fields import along_axes, column, smooth_field


def acquire(draws: Draws, volume: Tensor) -> Tensor:
    """Turn ideal intensities into an image.

    Args:
        draws: the batch's random numbers.
        volume: (n, S, S, S), soft tissue about between 0 and 1.

    Returns:
        (n, S, S, S)
    """
    numbers = draws.section("acquisition")
    size = volume.shape[-1]
    optics, noise_optics = _optics(numbers, size)
    image = along_axes(volume[:, None], optics)[:, 0]
    strength = numbers.log_uniform(low=0.05, high=0.45) * numbers.chance(p=0.6)
    bias = smooth_field(numbers, 1, knots=7, spans=(0.7, 3.0)).at(size)[:, 0]
    low = image.amin((1, 2, 3), keepdim=True)
    image = low + (image - low) * torch.exp(column(strength) * bias)
    image = _with_noise(numbers, image, along_axes(draws.white[:, :1], noise_optics)[:, 0])
    return _with_gamma(numbers, image)


def _optics(numbers: Section, size: int) -> tuple[Tensor, Tensor]:
    """Matrices (n, 3, S, S) for the volume and, of unit variance, for its noise."""
    n, device = numbers.n, numbers.device
    offset = torch.arange(size, device=device)[:, None] - torch.arange(size, device=device)  # (S, S)
    width = numbers.log_uniform(1, low=0.35, high=1.5) * numbers.log_uniform(3, low=0.75, high=1.35)
    matrices = _normalised(torch.exp(-(offset**2) / (2 * width[..., None, None] ** 2)))  # (n, 3, S, S)
    slices = _thick_slices(numbers, size)
    matrices = slices @ matrices
    ring = numbers.chance(3, p=0.12) * numbers.uniform(3, low=0.3, high=1.0)
    cutoff = numbers.uniform(3, low=0.4, high=0.8)[..., None, None]
    lowpass = _normalised(torch.sinc(offset * cutoff) * cutoff)
    identity = torch.eye(size, device=device).expand(n, 3, size, size)
    matrices = torch.lerp(identity, lowpass, ring[..., None, None]) @ matrices
    shift = numbers.uniform(3, low=0.1, high=0.5) * size
    ghost = numbers.chance(3, p=0.05) * numbers.uniform(3, low=0.03, high=0.15)
    turned = (offset.abs() - shift[..., None, None].round()).abs() < 0.5
    matrices = _normalised(identity + ghost[..., None, None] * turned) @ matrices
    grain = numbers.log_uniform(1, low=0.3, high=1.3) * numbers.chance(1, p=0.65) + 0.2
    noise = slices @ torch.exp(-(offset**2) / (2 * grain[..., None, None] ** 2))
    return matrices, noise / noise.norm(dim=-1, keepdim=True)


def _normalised(matrices: Tensor) -> Tensor:
    return matrices / matrices.sum(-1, keepdim=True)


def _thick_slices(numbers: Section, size: int) -> Tensor:
    """(n, 3, S, S): average over slices thicker than a voxel, then interpolate; identity on most axes."""
    n, device = numbers.n, numbers.device
    favourite = (numbers.uniform(1) * 3).long()
    is_thick = (torch.arange(3, device=device) == favourite) & numbers.chance(1, p=0.4)  # (n, 3)
    is_thick |= numbers.chance(1, p=0.12)  # coarse along all axes
    thickness = torch.where(is_thick, numbers.log_uniform(1, low=1.3, high=5.0), torch.ones(n, 3, device=device))
    thickness = thickness[..., None, None]  # (n, 3, 1, 1)
    phase = numbers.uniform(1)[..., None, None]
    voxels = torch.arange(size, device=device)
    place = voxels[:, None] / thickness - phase  # (n, 3, S, 1), in slices
    part = place - place.floor()
    part = torch.where(numbers.chance(1, p=0.2)[..., None, None], part.round(), part)  # nearest slice, in blocks
    slices = []
    for step in (0, 1):
        centre = ((place.floor() + step + phase) * thickness).clamp(0, size - 1)
        slices.append(_normalised((thickness / 2 + 0.5 - (voxels - centre).abs()).clamp(0, 1)))  # (n, 3, S, S)
    thick = torch.lerp(slices[0], slices[1], part)
    return torch.where(is_thick[..., None, None], thick, torch.eye(size, device=device))


def _with_noise(numbers: Section, image: Tensor, noise: Tensor) -> Tensor:
    """Add noise: Gaussian, Rician, or speckle that grows with the signal."""
    kind = column(numbers.uniform(1)[:, 0])
    strength = column(numbers.log_uniform(low=0.006, high=0.09))
    first = noise * strength
    second = noise.flip(1, 2) * strength  # as good as independent, and for free
    low = image.amin((1, 2, 3), keepdim=True)
    rician = ((image - low + first).square() + second.square()).sqrt() + low
    speckle = image + (image - low) * first * 2
    return torch.where(kind < 0.6, image + first, torch.where(kind < 0.85, rician, speckle))


def _with_gamma(numbers: Section, image: Tensor) -> Tensor:
    """Bend the grey scale of half of the images; turn a few upside down."""
    low, high = image.amin((1, 2, 3), keepdim=True), image.amax((1, 2, 3), keepdim=True)
    exponent = torch.where(numbers.chance(p=0.5), numbers.log_uniform(low=0.6, high=1.7), numbers.uniform() * 0 + 1)
    unit = (image - low) / (high - low).clamp(min=1e-6)
    inverted = column(numbers.chance(p=0.06))
    unit = torch.where(inverted, 1 - unit, unit)
    return unit.clamp(0, 1) ** column(exponent)
