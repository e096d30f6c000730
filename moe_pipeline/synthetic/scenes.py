"""Backgrounds: label maps that fill the whole crop."""

from collections.abc import Callable

import torch
from torch import Tensor

from moe_pipeline.synthetic import labels
from moe_pipeline.synthetic.draws import Draws, Section
from moe_pipeline.synthetic.fields import along_axes, column, doubling, smooth_field
from moe_pipeline.synthetic.frame import SCENES, FieldOfView


def paint_scenes(draws: Draws, frame: FieldOfView, coordinates: Tensor) -> Tensor:
    """Draw the background of every sample.

    Args:
        draws: the batch's random numbers.
        frame: scene and field of view of each sample.
        coordinates: (n, 3, S, S, S), warped.

    Returns:
        (n, S, S, S) uint8 labels.
    """
    painted = torch.zeros(len(frame.scenes), *coordinates.shape[2:], dtype=torch.uint8, device=coordinates.device)
    for kind, name in enumerate(SCENES):
        chosen = [row for row, scene in enumerate(frame.scenes) if scene == kind]
        if chosen:
            rows = torch.tensor(chosen, device=coordinates.device)
            local = (coordinates[rows] - column(frame.centre[rows])) / column(frame.scale[rows])
            painted[rows] = _PAINTERS[name](draws.section("scene").rows(rows), local)
    return painted


def paint_cells(numbers: Section, coordinates: Tensor, most: int = len(labels.CELLS)) -> Tensor:
    """(n, S, S, S) uint8: 3 to `most` anisotropic Voronoi cells, in half of the samples with filling between them."""
    n, size = coordinates.shape[0], coordinates.shape[-1]
    stretch = numbers.log_uniform(3, low=0.6, high=1.6)  # (n, 3)
    seeds = numbers.uniform(most, 3, low=-1.15, high=1.15) * stretch[:, None]
    wanted = numbers.log_uniform(1, low=3, high=most + 1).floor()  # (n, 1)
    unused = torch.arange(most, device=seeds.device) >= wanted  # (n, most)
    offset = -seeds.square().sum(-1) / 2 + numbers.normal(most) * 0.03 - unused * 1e4
    planes = torch.cat([seeds * stretch[:, None], offset[..., None]], -1)  # (n, most, 4)
    places = torch.cat([coordinates, torch.ones_like(coordinates[:, :1])], 1).reshape(n, 4, -1)  # (n, 4, S**3)
    scores = places.transpose(1, 2) @ planes.transpose(1, 2)  # (n, S**3, most)
    cells = (scores.argmax(-1) + labels.CELLS.start).to(torch.uint8).reshape(n, size, size, size)
    half = scores.reshape(n, size, size, size, most)[:, ::2, ::2, ::2]  # (n, h, h, h, most)
    best, second = half.topk(2, dim=-1).values.unbind(-1)  # (n, h, h, h) each
    finer = doubling(size, seeds.device).expand(n, 3, size, size // 2)
    lead = along_axes((best - second)[:, None], finer)[:, 0]  # (n, S, S, S)
    ripple = smooth_field(numbers, 1, knots=12, spans=(3.0, 9.0)).at(size)[:, 0]
    width = numbers.log_uniform(low=0.01, high=0.09) * numbers.chance(p=0.5)
    gap = lead < column(width) * (1 + 0.6 * ripple)
    return torch.where(gap & column(width > 0), torch.full_like(cells, labels.FILLING), cells)


def _bands(numbers: Section, coordinates: Tensor) -> Tensor:
    """(n, S, S, S) uint8: two smooth fields cut into bands, folded layers; or blobs, each where its field wins."""
    size = coordinates.shape[-1]
    first, second = smooth_field(numbers, 2, knots=12, spans=(2.0, 8.0)).at(size).unbind(1)  # (n, S, S, S) each
    width = column(numbers.log_uniform(2, low=0.5, high=2.0))
    shift = column(numbers.uniform(2))
    lower = (first / width[:, 0] + shift[:, 0] + 1.5).floor().clamp(0, 3)
    upper = (second / width[:, 1] + shift[:, 1] + 0.5).floor().clamp(0, 3)
    single = column(numbers.chance(p=0.5))
    bands = labels.BANDS.start + lower * 4 + torch.where(single, 0, upper)
    rivals = smooth_field(numbers, len(labels.BLOBS), knots=11, spans=(2.0, 7.0)).at(size)  # (n, blobs, S, S, S)
    blobs = rivals.argmax(1) + labels.BLOBS.start
    return torch.where(column(numbers.chance(p=0.5)), bands, blobs).to(torch.uint8)


def _rippled_radius(numbers: Section, coordinates: Tensor, elongation: tuple[float, float]) -> tuple[Tensor, Tensor]:
    """Distance from the middle in units of a bumpy ellipsoid, and the coordinates it was measured in."""
    zoom = numbers.log_uniform(1, low=0.4, high=1.35)
    towards = numbers.normal(3)
    towards = towards / towards.norm(dim=-1, keepdim=True)
    shift = towards * (1.1 - zoom).clamp(min=0.0) * numbers.uniform(1, low=0.0, high=1.15)
    world = coordinates * column(zoom) + column(shift)
    axes = numbers.uniform(3, low=0.75, high=1.1)
    axes[:, 2] *= numbers.log_uniform(low=elongation[0], high=elongation[1])
    ripple = smooth_field(numbers, 1, knots=9, spans=(1.5, 5.0)).at(coordinates.shape[-1])[:, 0]
    radius = (world / column(axes)).square().sum(1).sqrt()
    return radius + column(numbers.uniform(low=0.0, high=0.07)) * ripple, world


def _body(numbers: Section, coordinates: Tensor) -> Tensor:
    """(n, S, S, S) uint8: air, skin, fat, muscle, ribs or a bony ring, lungs, and organs as cells."""
    radius, world = _rippled_radius(numbers, coordinates, (1.0, 4.0))
    skin, fat, muscle, bone = (
        column(numbers.log_uniform(low=low, high=high))
        for low, high in ((0.008, 0.03), (0.02, 0.3), (0.03, 0.15), (0.03, 0.09))
    )
    pitch, tilt = column(numbers.uniform(low=8, high=22)), column(numbers.uniform(low=-6, high=6))
    gap = column(numbers.uniform(low=-1.2, high=1.0))  # below -1: a closed ring
    organs = paint_cells(numbers, coordinates, most=16)
    has_bone, has_lung = column(numbers.chance(p=0.55)), column(numbers.chance(p=0.3))
    is_lung = (organs % 3 == 1) & has_lung
    painted = torch.where(is_lung, torch.full_like(organs, labels.LUNG), organs)
    wall = 1 - skin - fat
    rib = (radius > wall - muscle - bone) & (radius < wall - muscle)
    rib &= torch.sin(world[:, 2] * pitch + world[:, 1] * tilt) > gap
    painted[radius > wall - muscle - bone * 1.2] = labels.MUSCLE
    painted[rib & has_bone] = labels.BONE
    painted[radius > wall] = labels.FAT
    painted[radius > 1 - skin] = labels.SKIN
    painted[radius > 1] = labels.AIR
    return painted


def _brain(numbers: Section, coordinates: Tensor) -> Tensor:
    """(n, S, S, S) uint8: scalp and skull (or none), fluid, folded cortex, white matter, ventricles, nuclei."""
    radius, world = _rippled_radius(numbers, coordinates, (0.85, 1.2))
    scalp, skull, fluid = (
        column(numbers.log_uniform(low=low, high=high)) for low, high in ((0.02, 0.1), (0.02, 0.08), (0.01, 0.06))
    )
    bare = column(numbers.chance(p=0.45))
    cortex, sulcus = column(numbers.uniform(low=0.12, high=0.4)), column(numbers.uniform(low=0.05, high=0.25))
    depth = column(numbers.uniform(low=0.15, high=0.6))
    fold = smooth_field(numbers, 1, knots=22, spans=(5.0, 19.0)).at(coordinates.shape[-1])[:, 0].abs()
    below = 1 - radius - torch.where(bare, 0.0, scalp + skull)  # depth under the inner table
    deep = below > depth
    painted = torch.full(radius.shape, labels.WHITE, dtype=torch.uint8, device=radius.device)
    painted[((fold < cortex + sulcus) & ~deep) | (below < fluid + 0.08 * cortex + 0.03)] = labels.CORTEX
    painted[((fold < sulcus) & (below < depth * 0.9)) | ((below < fluid) & ~bare)] = labels.FLUID
    _paint_deep(numbers, world, painted)
    painted[below < 0] = labels.SKULL
    painted[(below < -skull) & ~bare] = labels.SCALP
    painted[(below < torch.where(bare, 0.0, -(skull + scalp)))] = labels.AIR
    return painted


def _paint_deep(numbers: Section, world: Tensor, painted: Tensor) -> None:
    """Paint mirrored ventricles and nuclei into `painted`, which the caller has just made."""
    across, along, up = world[:, 0].abs(), world[:, 1], world[:, 2]
    size = column(numbers.uniform(low=0.6, high=1.4))
    bend = column(numbers.uniform(low=0.0, high=0.8))
    ventricle = ((across - 0.1) / 0.07) ** 2 + (along / 0.4) ** 2 + ((up + bend * along**2) / 0.12) ** 2 < size
    nucleus = ((across - 0.27) / 0.12) ** 2 + ((along - 0.05) / 0.25) ** 2 + ((up + 0.05) / 0.14) ** 2 < size
    painted[nucleus & (world[:, 0] < 0)] = labels.NUCLEUS_LEFT
    painted[nucleus & (world[:, 0] >= 0)] = labels.NUCLEUS_RIGHT
    painted[ventricle] = labels.VENTRICLE


_PAINTERS: dict[str, Callable[[Section, Tensor], Tensor]] = {
    "cells": paint_cells,
    "bands": _bands,
    "body": _body,
    "brain": _brain,
}
