"""A picture of what the network sees."""

from pathlib import Path

import torch
from torch import Tensor

from moe_pipeline.files import atomic_path
from moe_pipeline.journal.written import refuse_existing
from moe_pipeline.synthetic.volumes import make_batch

_COLUMNS = 4
_OUTLINE = torch.tensor([255, 60, 60], dtype=torch.uint8)


def write_gallery(path: Path, seed: int, n: int, size: int = 64) -> None:
    """Write a PNG sheet: of each sample three planes through its target, which is outlined.

    Args:
        path: the PNG to write.
        seed: which synthetic set.
        n: number of samples, four in a row.
        size: voxels per edge.

    Raises:
        PipelineError: if `path` exists.
    """
    from PIL import Image

    refuse_existing(path)
    tiles = [
        _tile(sample.image[0, 0], sample.target[0, 0])
        for sample in (make_batch(seed, 1, size, first=i) for i in range(n))
    ]
    tiles += [torch.zeros_like(tiles[0])] * (-n % _COLUMNS)
    rows = [torch.cat(tiles[at : at + _COLUMNS], 1) for at in range(0, len(tiles), _COLUMNS)]
    sheet = torch.cat(rows).repeat_interleave(2, 0).repeat_interleave(2, 1)  # (height, width, 3)
    with atomic_path(path) as temporary:
        Image.fromarray(sheet.numpy()).save(temporary, format="PNG")


def _tile(image: Tensor, target: Tensor) -> Tensor:
    """(S, 3 S, 3) uint8: the slices across x, y and z that hold most of the target."""
    planes = []
    for axis in range(3):
        others = tuple(other for other in range(3) if other != axis)
        place = int(target.sum(others).argmax())
        planes.append(_plane(image.select(axis, place), target.select(axis, place)))
    return torch.cat(planes, 1)


def _plane(image: Tensor, mask: Tensor) -> Tensor:
    """(S, S, 3) uint8: grey values from -2.5 to 2.5, second axis upwards, the mask's edge in colour."""
    grey = ((image + 2.5) / 5 * 255).clamp(0, 255).to(torch.uint8)
    shown = grey[..., None].repeat(1, 1, 3)
    inner = mask.clone()
    for axis in (0, 1):
        inner &= mask.roll(1, axis) & mask.roll(-1, axis)
    shown[mask & ~inner] = _OUTLINE
    return shown.transpose(0, 1).flip(0)
