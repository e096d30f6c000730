"""Who paints the volumes that a run is shown: drawn scenes, and a share of real label maps."""

from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Protocol, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from moe_pipeline.errors import PipelineError
from moe_pipeline.parallel import process_pool
from moe_pipeline.synthetic.anatomy.label_maps import Atlas, read_atlas
from moe_pipeline.synthetic.anatomy.paint import paint_anatomy
from moe_pipeline.synthetic.volumes import SyntheticBatch, make_batch

_STREAM = 5  # of the random numbers that say which volumes are painted on label maps


@dataclass(frozen=True, slots=True)
class Painting:
    """Volumes that are painted at once."""

    batch: SyntheticBatch
    """Images (n, 1, S, S, S) and targets (n, k, S, S, S)."""
    upright: tuple[bool, ...]
    """Of each volume, whether it may only be mirrored across."""

    def to(self, device: torch.device) -> "Painting":
        """The same on a device."""
        return Painting(SyntheticBatch(self.batch.image.to(device), self.batch.target.to(device)), self.upright)


@dataclass(frozen=True, slots=True)
class PainterSettings:
    """What is painted."""

    seed: int
    """Of the endless set."""
    volumes: int
    """In each painting."""
    size: int
    """Voxels per edge."""
    targets: int
    """Objects of each volume."""
    label_maps: Path | None = None
    """Folder with label maps to paint on, as in `find_sources`."""
    anatomy: float = 0.65
    """Share of the volumes that are painted on them, if there are any."""


class Painter(Protocol):
    """Gives paintings by number; each depends on its number alone."""

    def paint(self, number: int) -> Painting:
        """One painting."""

    def close(self) -> None:
        """Nothing more is asked for."""


class OwnPainter:
    """Paints when it is asked to, here.

    Args:
        settings: see there.
        device: where to paint.
    """

    def __init__(self, settings: PainterSettings, device: torch.device) -> None:
        self.settings = settings
        self.device = device
        self._atlas: Atlas | None = read_atlas(settings.label_maps, held_out=False) if settings.label_maps else None

    def paint(self, number: int) -> Painting:
        """See `Painter`."""
        s, seed = self.settings, self.settings.seed * 100_003 + number
        if self._atlas is None:
            batch = make_batch(seed, s.volumes, s.size, device=self.device, targets_per_image=s.targets)
            return Painting(batch, (False,) * s.volumes)
        shares = np.random.default_rng((s.seed, number, _STREAM)).random(s.volumes)
        upright = tuple(bool(share < s.anatomy) for share in shares)
        rows = [self._one(seed, row, self._atlas if real else None) for row, real in enumerate(upright)]
        images, targets = (torch.cat(parts) for parts in zip(*((one.image, one.target) for one in rows), strict=True))
        return Painting(SyntheticBatch(images, targets), upright)

    def close(self) -> None:
        """See `Painter`."""

    def _one(self, seed: int, row: int, atlas: Atlas | None) -> SyntheticBatch:
        s = self.settings
        if atlas is None:
            return make_batch(seed, 1, s.size, device=self.device, targets_per_image=s.targets, first=row)
        return paint_anatomy(seed, row, s.size, atlas, self.device, targets=s.targets)


class PaintingProcesses:
    """Paints the next ones in other processes, each with one thread, while the last one is looked at.

    Args:
        settings: see there.
        processes: how many.
    """

    def __init__(self, settings: PainterSettings, processes: int) -> None:
        self._open = ExitStack()
        self._pool: ProcessPoolExecutor = self._open.enter_context(process_pool(processes, _begin, (settings,)))
        self._ahead = 2 * processes
        self._asked: dict[int, Future[_Sent]] = {}

    def paint(self, number: int) -> Painting:
        """See `Painter`; those that follow are asked for, too.

        Raises:
            PipelineError: as `read_atlas` does, or if a process has ended.
        """
        wanted = range(number, number + self._ahead + 1)
        for dropped in set(self._asked) - set(wanted):
            self._asked.pop(dropped).cancel()
        for one in wanted:
            if one not in self._asked:
                self._asked[one] = self._pool.submit(_paint, one)
        try:
            return _unpacked(self._asked.pop(number).result())
        except BrokenProcessPool as error:
            reason = "a process that paints has ended, perhaps for want of memory; give fewer --painters, or 0"
            raise PipelineError(reason) from error

    def close(self) -> None:
        """End the processes."""
        for future in self._asked.values():
            future.cancel()
        self._open.close()


_Sent: TypeAlias = tuple[NDArray[np.float32], NDArray[np.uint8], tuple[bool, ...]]
"""A painting on its way between processes, with the bits of its targets along the last axis.

torch would share memory for its tensors, of which a container may have little.
"""
_settings: list[PainterSettings] = []  # of a painting process


def _begin(settings: PainterSettings) -> None:
    torch.set_num_threads(1)
    _settings.append(settings)


@cache
def _own_painter() -> OwnPainter:
    """Made for the first painting, so that what is wrong with the label maps reaches whoever asked for it."""
    return OwnPainter(_settings[-1], torch.device("cpu"))


def _paint(number: int) -> _Sent:
    painting = _own_painter().paint(number)
    return painting.batch.image.numpy(), np.packbits(painting.batch.target.numpy(), axis=-1), painting.upright


def _unpacked(sent: _Sent) -> Painting:
    image, bits, upright = sent
    target = np.unpackbits(bits, axis=-1, count=image.shape[-1]).view(np.bool_)
    return Painting(SyntheticBatch(torch.from_numpy(image), torch.from_numpy(target)), upright)


def open_painter(settings: PainterSettings, processes: int, device: torch.device) -> Painter:
    """Other processes that paint, or this one, on `device`, if there are to be none."""
    return PaintingProcesses(settings, processes) if processes else OwnPainter(settings, device)


def held_out_volumes(
    folder: Path, seed: int, count: int, size: int, device: torch.device, *, targets: int
) -> list[SyntheticBatch]:
    """Volumes painted on the label maps that no painter sees; none if there are too few maps to hold one out.

    Args:
        folder: with label maps.
        seed: of the endless set.
        count: how many.
        size: voxels per edge.
        device: where to paint.
        targets: objects of each.
    """
    atlas = read_atlas(folder, held_out=True)
    if not atlas.sources:
        return []
    return [paint_anatomy(seed, index, size, atlas, device, targets=targets) for index in range(count)]
