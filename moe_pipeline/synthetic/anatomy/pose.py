"""How a label map lies in the cube: about upright, near some structure, at some spacing."""

from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from moe_pipeline.synthetic import labels
from moe_pipeline.synthetic.anatomy.label_maps import Lesion, StructureMap
from moe_pipeline.synthetic.anatomy.source import LesionHost
from moe_pipeline.synthetic.frame import FieldOfView

_SPACINGS_MM = (0.6, 3.0)
_TILT = 0.15  # radians, standard deviation about each axis
_STRETCH = 0.08  # standard deviation of the logarithm along each axis
_ASIDE_VOXELS = 4.0  # standard deviation of the distance from the structure that is looked at to the middle


@dataclass(frozen=True, slots=True)
class Pose:
    """From the cube's coordinates to voxels of a label map."""

    matrix: NDArray[np.float64]
    """(3, 3): from half edges of the cube to voxels of the map."""
    middle: NDArray[np.float64]
    """(3,): the voxel in the middle of the field of view."""


def draw_pose(random: np.random.Generator, size: int, label_map: StructureMap, near: NDArray[np.float64]) -> Pose:
    """Tilt a little, mirror half of them across, and look near a voxel.

    Args:
        random: source of the numbers.
        size: voxels per edge of the cube.
        label_map: what is looked at.
        near: (3,) voxel of it.
    """
    low, high = _SPACINGS_MM
    spacing = low * (high / low) ** random.random()
    across = np.diag([random.choice([-1.0, 1.0]), 1.0, 1.0])
    stretch = np.diag(np.exp(_STRETCH * random.normal(size=3)))
    to_mm = across @ _rotation(_TILT * random.normal(size=3)) @ stretch * (size / 2 * spacing)
    voxels = np.array(label_map.spacing_mm)
    aside = _ASIDE_VOXELS * spacing / voxels * random.normal(size=3)
    return Pose(to_mm / voxels[:, None], near + aside)


def places_in_map(pose: Pose, frame: FieldOfView) -> Tensor:
    """Voxels of the map, not whole, that the cube's voxels of one sample show: (3, S**3)."""
    coordinates = frame.coordinates(frame.size)[0]  # (3, S, S, S)
    local = (coordinates - frame.centre[0, :, None, None, None]).reshape(3, -1)  # (3, S**3)
    matrix = torch.tensor(pose.matrix, dtype=local.dtype, device=local.device)
    return matrix @ local + torch.tensor(pose.middle, dtype=local.dtype, device=local.device)[:, None]


def look_up(grid: Tensor, places: Tensor) -> Tensor:
    """The nearest voxels of (X, Y, Z) at (3, n) places, (n,); 0 outside."""
    sides = torch.tensor(grid.shape, device=places.device)[:, None]
    nearest = places.round().long()  # (3, n)
    inside = ((nearest >= 0) & (nearest < sides)).all(0)
    x, y, z = nearest.clamp(min=torch.zeros_like(sides), max=sides - 1)
    found = grid.flatten()[(x * grid.shape[1] + y) * grid.shape[2] + z]
    return torch.where(inside, found, torch.zeros_like(found))


@cache
def host_box(host: LesionHost, label_map: StructureMap) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Lowest and highest voxel (3,) of the tissues that lesions lie in."""
    members = torch.zeros(labels.N_LABELS, dtype=torch.bool)
    members[_members(host, label_map)] = True
    there = members[label_map.voxels.long()].numpy()  # (X, Y, Z)
    sides = [np.flatnonzero(there.any(axis=others)) for others in ((1, 2), (0, 2), (0, 1))]
    return np.array([side[0] for side in sides], float), np.array([side[-1] for side in sides], float)


def paint_lesion(painted: Tensor, places: Tensor, lesion: Lesion, label_map: StructureMap) -> Tensor:
    """Paint a lesion over its host: (S, S, S) uint8 labels, and (3, S**3) places in the map, to (S, S, S)."""
    box = host_box(lesion.host, label_map)
    low, high = (torch.tensor(corner, dtype=places.dtype, device=places.device) for corner in box)
    shares = (places - low[:, None]) / (high - low)[:, None]  # (3, S**3)
    first, step = (torch.tensor(at, dtype=places.dtype, device=places.device) for at in (lesion.low, lesion.step))
    inside = look_up(lesion.mask.to(places.device), (shares - first[:, None]) / step[:, None]).reshape(painted.shape)
    allowed = torch.zeros(labels.N_LABELS, dtype=torch.bool, device=painted.device)
    allowed[_members(lesion.host, label_map)] = True
    return torch.where(inside & allowed[painted.long()], torch.full_like(painted, labels.LESION), painted)


def voxel_of_lesion(random: np.random.Generator, lesion: Lesion, label_map: StructureMap) -> NDArray[np.float64]:
    """Some voxel (3,) of the map that a lesion covers."""
    voxels = lesion.mask.nonzero().numpy()
    share = np.array(lesion.low) + voxels[random.integers(len(voxels))] * np.array(lesion.step)
    low, high = host_box(lesion.host, label_map)
    voxel: NDArray[np.float64] = low + share * (high - low)
    return voxel


def _members(host: LesionHost, label_map: StructureMap) -> list[int]:
    return [structure for tissue in host.tissues for structure in label_map.structures(tissue)]


def _rotation(angles: NDArray[np.float64]) -> NDArray[np.float64]:
    """About R, then A, then S."""
    result = np.eye(3)
    for axis, angle in enumerate(angles):
        first, second = (axis + 1) % 3, (axis + 2) % 3
        turn = np.eye(3)
        turn[first, first] = turn[second, second] = np.cos(angle)
        turn[first, second], turn[second, first] = -np.sin(angle), np.sin(angle)
        result = turn @ result
    return result
