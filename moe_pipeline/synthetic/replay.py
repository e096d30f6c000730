"""Painted volumes, shown several times: painting one takes as long as learning from it."""

from dataclasses import dataclass
from itertools import permutations, product
from typing import TypeAlias

import torch
from torch import Tensor

from moe_pipeline.synthetic.painter import Painter, Painting
from moe_pipeline.synthetic.volumes import SyntheticBatch

_POOL = 12  # paintings to draw from
Turn: TypeAlias = tuple[tuple[int, ...], tuple[bool, ...]]
_TURNS: tuple[Turn, ...] = tuple(product(permutations((1, 2, 3)), product((False, True), repeat=3)))
"""All 48 ways to turn and mirror a cube, its axes being 1 to 3."""


@dataclass(frozen=True, slots=True)
class ReplaySettings:
    """How volumes are painted and shown."""

    seed: int
    """Of draws."""
    volumes: int
    """Shown per step, and painted at once."""
    targets: int
    """Objects shown per volume."""
    painted_targets: int
    """Objects to choose these from."""
    shows: int
    """How often a volume is shown in the mean, each time turned and mirrored anew."""


class Replay:
    """Volumes for every step, of a moving pool of the latest paintings.

    What a step sees depends on its number alone, so that a run can go on anywhere.

    Args:
        settings: see there.
        painter: of paintings with as many volumes and targets.
        device: where the volumes are wanted.
    """

    def __init__(self, settings: ReplaySettings, painter: Painter, device: torch.device) -> None:
        self.settings = settings
        self.device = device
        self._painter = painter
        self._pool: dict[int, Painting] = {}

    def batch(self, step: int, *, largest: bool = False) -> SyntheticBatch:
        """The volumes of a step, (n, 1, S, S, S) and (n, targets, S, S, S).

        Args:
            step: its number.
            largest: show the largest objects instead of random ones.
        """
        s = self.settings
        newest = step // s.shows
        numbers = range(max(0, newest - _POOL + 1), newest + 1)
        self._pool = {number: self._pool.get(number) or self._painted(number) for number in numbers}
        generator = torch.Generator().manual_seed(s.seed * 1_000_003 + step)
        drawn = torch.randperm(len(numbers) * s.volumes, generator=generator)[: s.volumes].tolist()
        images, targets = [], []
        for place in drawn:
            painting, row = self._pool[numbers[place // s.volumes]], place % s.volumes
            image, target = painting.batch.image[row], painting.batch.target[row]
            turn = _TURNS[int(torch.randint(len(_TURNS), (), generator=generator))]
            if painting.upright[row]:
                turn = _mirrored_across(turn)
            some = torch.randperm(s.painted_targets, generator=generator)[: s.targets]
            if largest:
                some = target.flatten(1).sum(1).argsort(descending=True)[: s.targets].cpu()
            images.append(_turned(image, turn))
            targets.append(_turned(target[some.to(self.device)], turn))
        return SyntheticBatch(torch.stack(images), torch.stack(targets))

    def close(self) -> None:
        """Let the painter go."""
        self._painter.close()

    def _painted(self, number: int) -> Painting:
        return self._painter.paint(number).to(self.device)


def _mirrored_across(turn: Turn) -> Turn:
    """Of a turn only whether its first axis is mirrored."""
    return (1, 2, 3), (turn[1][0], False, False)


def _turned(cubes: Tensor, turn: Turn) -> Tensor:
    """(k, S, S, S) with its axes permuted and some of them mirrored."""
    order, mirrored = turn
    flips = [axis for axis, is_mirrored in enumerate(mirrored, start=1) if is_mirrored]
    return cubes.permute(0, *order).flip(flips).contiguous()
