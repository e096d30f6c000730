"""All random numbers of a batch, drawn at once, one generator per sample."""

import torch
from torch import Tensor

_SECTIONS = ("frame", "scene", "objects", "table", "texture", "acquisition", "targets")
_N_UNIFORM = 1024  # per section and sample
_N_NORMAL = 36_000
_GOLDEN = 0x9E3779B97F4A7C15
_MASK = (1 << 64) - 1


def _mix(seed: int, index: int) -> int:
    """One well-spread 63-bit generator seed from (seed, index)."""
    value = (seed * _GOLDEN + index + 1) & _MASK
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        value = ((value ^ (value >> shift)) * factor) & _MASK
    return (value ^ (value >> 31)) >> 1


class Section:
    """The numbers of one stage. Reading moves a cursor, so a stage must read the same amount for every sample."""

    def __init__(self, uniforms: Tensor, normals: Tensor):
        self._uniforms = uniforms  # (n, _N_UNIFORM)
        self._normals = normals  # (n, _N_NORMAL)
        self._next_uniform = 0
        self._next_normal = 0

    @property
    def n(self) -> int:
        """Number of samples."""
        return self._uniforms.shape[0]

    @property
    def device(self) -> torch.device:
        """Where the numbers live."""
        return self._uniforms.device

    def rows(self, rows: Tensor) -> "Section":
        """The same numbers for some samples only, from the beginning."""
        return Section(self._uniforms[rows], self._normals[rows])

    def uniform(self, *shape: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        """(n, *shape), evenly spread in [low, high)."""
        count = int(torch.Size(shape).numel())
        start, self._next_uniform = self._next_uniform, self._next_uniform + count
        assert self._next_uniform <= _N_UNIFORM, "enlarge _N_UNIFORM"
        return self._uniforms[:, start : start + count].reshape(self.n, *shape) * (high - low) + low

    def log_uniform(self, *shape: int, low: float, high: float) -> Tensor:
        """(n, *shape), evenly spread in the logarithm between low and high."""
        return low * (high / low) ** self.uniform(*shape)

    def chance(self, *shape: int, p: float) -> Tensor:
        """(n, *shape) bool, true with probability p."""
        return self.uniform(*shape) < p

    def sign(self, *shape: int, p_positive: float = 0.5) -> Tensor:
        """(n, *shape), +1 or -1."""
        return self.chance(*shape, p=p_positive).float() * 2 - 1

    def normal(self, *shape: int) -> Tensor:
        """(n, *shape), standard normal."""
        count = int(torch.Size(shape).numel())
        start, self._next_normal = self._next_normal, self._next_normal + count
        assert self._next_normal <= _N_NORMAL, "enlarge _N_NORMAL"
        return self._normals[:, start : start + count].reshape(self.n, *shape)


class Draws:
    """Random numbers of n samples, which depend on (seed, index of the sample) only, never on its neighbours.

    Attributes:
        white: (n, 2, size, size, size) standard normal voxels.
        on_cpu: the section "frame" on the CPU, for choices that decide what is computed at all.
    """

    def __init__(self, seed: int, indices: range, size: int, device: torch.device):
        seeds = [_mix(seed, index) for index in indices]
        small = [_small_numbers(value) for value in seeds]
        uniforms = torch.stack([uniform for uniform, _ in small])  # (n, sections, _N_UNIFORM)
        normals = torch.stack([normal for _, normal in small])  # (n, sections, _N_NORMAL)
        self.on_cpu = Section(uniforms[:, 0], normals[:, 0])
        self._uniforms, self._normals = uniforms.to(device), normals.to(device)
        self.white = torch.stack([_white(value, size, device) for value in seeds])  # (n, 2, S, S, S)

    def section(self, name: str) -> Section:
        """A fresh reader of the numbers of one stage."""
        place = _SECTIONS.index(name)
        return Section(self._uniforms[:, place], self._normals[:, place])


def _small_numbers(seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    uniforms = torch.rand(len(_SECTIONS), _N_UNIFORM, generator=generator)
    return uniforms, torch.randn(len(_SECTIONS), _N_NORMAL, generator=generator)


def _white(seed: int, size: int, device: torch.device) -> Tensor:
    generator = torch.Generator(device=device).manual_seed(seed ^ _GOLDEN >> 1)
    return torch.randn(2, size, size, size, generator=generator, device=device)
