"""Where the voxels of a grid lie in the patient."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import permutations
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from moe_pipeline.errors import GeometryError

Box = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]
"""Half-open voxel intervals along x, y and z; may reach beyond the grid."""

IDENTITY = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
_T = TypeVar("_T", int, float)
_ORTHONORMAL_TOLERANCE = 1e-3  # headers keep direction cosines in single precision or as decimal text


@dataclass(frozen=True, slots=True)
class Geometry:
    """A regular grid in the world of the patient: RAS, millimetres.

    Attributes:
        shape: number of voxels along the index axes x, y, z.
        spacing_mm: distance of neighbouring voxels along each index axis.
        origin_mm: world position of the centre of voxel (0, 0, 0).
        direction: 3x3 matrix, row by row; its columns are the index axes as unit vectors of the world.
    """

    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    origin_mm: tuple[float, float, float] = (0.0, 0.0, 0.0)
    direction: tuple[float, ...] = IDENTITY

    def __post_init__(self) -> None:
        _set(self, "shape", tuple(int(n) for n in self.shape))
        for name in ("spacing_mm", "origin_mm", "direction"):
            _set(self, name, tuple(float(value) for value in getattr(self, name)))
        self._check()

    def _check(self) -> None:
        if len(self.shape) != 3 or min(self.shape) < 1:
            raise GeometryError(f"a grid needs three positive sides, found {self.shape}")
        if len(self.spacing_mm) != 3 or not all(np.isfinite(mm) and mm > 0 for mm in self.spacing_mm):
            raise GeometryError(f"spacing must be three positive numbers in mm, found {_by(self.spacing_mm)}")
        if len(self.origin_mm) != 3 or not np.isfinite(self.origin_mm).all():
            raise GeometryError(f"origin must be three finite numbers in mm, found {self.origin_mm}")
        if len(self.direction) != 9 or not np.isfinite(self.direction).all():
            raise GeometryError(f"direction must be nine finite numbers, found {self.direction}")
        gram = self.matrix.T @ self.matrix
        if np.abs(gram - np.eye(3)).max() > _ORTHONORMAL_TOLERANCE:
            axes = " ".join(f"({_by(axis, ', ')})" for axis in self.matrix.T)
            raise GeometryError(f"index axes must be orthogonal unit vectors (no shear), found {axes}", kind="sheared")

    @property
    def matrix(self) -> NDArray[np.float64]:
        """Direction as a fresh 3x3 array."""
        return np.array(self.direction, dtype=np.float64).reshape(3, 3)

    @property
    def affine(self) -> NDArray[np.float64]:
        """4x4 matrix from voxel index to world mm, a fresh copy."""
        affine = np.eye(4)
        affine[:3, :3] = self.matrix * np.asarray(self.spacing_mm)
        affine[:3, 3] = self.origin_mm
        return affine

    @property
    def extent_mm(self) -> tuple[float, float, float]:
        """Length of the field of view along each index axis, voxel borders included."""
        x, y, z = (n * mm for n, mm in zip(self.shape, self.spacing_mm, strict=True))
        return x, y, z

    @property
    def voxel_ml(self) -> float:
        """Volume of one voxel in millilitres."""
        return float(np.prod(self.spacing_mm)) / 1000

    def voxel_to_world(self, points: ArrayLike) -> NDArray[np.float64]:
        """World positions in mm, (n, 3) or (3,), of voxel indices of the same shape; whole numbers are centres."""
        indices = np.asarray(points, dtype=np.float64)
        return np.asarray(indices * self.spacing_mm @ self.matrix.T + self.origin_mm)

    def world_to_voxel(self, points: ArrayLike) -> NDArray[np.float64]:
        """Fractional voxel indices, (n, 3) or (3,), of world positions in mm of the same shape."""
        offsets = np.asarray(points, dtype=np.float64) - self.origin_mm
        return np.asarray(offsets @ np.linalg.inv(self.affine[:3, :3]).T)

    def cropped(self, box: Box) -> "Geometry":
        """The part of the crop grid inside `box`, which may reach beyond the grid: voxels keep their places.

        Raises:
            GeometryError: if a side of the box is empty.
        """
        starts = [start for start, _ in box]
        shape = (box[0][1] - box[0][0], box[1][1] - box[1][0], box[2][1] - box[2][0])
        return replace(self, shape=shape, origin_mm=_triple(self.voxel_to_world(starts)))

    def resampled(self, spacing_mm: float | Sequence[float]) -> "Geometry":
        """The same field of view with another spacing.

        The corner before voxel (0, 0, 0) stays where it is, so its centre moves by half the difference of the
        spacings; the last voxel may reach beyond the old field of view (sides are rounded up). This is how
        SAM-Med3D's published preprocessing places its voxels.
        """
        new = np.broadcast_to(np.asarray(spacing_mm, dtype=np.float64), 3)
        if not (np.isfinite(new).all() and (new > 0).all()):
            raise GeometryError(f"spacing must be positive numbers in mm, found {spacing_mm}")
        ratio = new / np.asarray(self.spacing_mm)
        sides = np.ceil(np.asarray(self.shape) / ratio - 1e-6).astype(int)  # 36 x 1 mm is 24 x 1.5 mm, not 25
        origin = self.voxel_to_world((ratio - 1) / 2)
        shape = (int(sides[0]), int(sides[1]), int(sides[2]))
        return replace(self, shape=shape, spacing_mm=_triple(new), origin_mm=_triple(origin))

    def canonical_axes(self) -> tuple[tuple[int, int, int], tuple[bool, bool, bool]]:
        """Which index axis runs closest to R, A and S, and whether it runs the other way."""
        matrix = self.matrix

        def closeness(order: tuple[int, ...]) -> float:
            return sum(abs(float(matrix[axis, index])) for axis, index in enumerate(order))

        first, second, third = max(permutations(range(3)), key=lambda order: round(closeness(order), 6))
        order = (first, second, third)
        flipped = (bool(matrix[0, first] < 0), bool(matrix[1, second] < 0), bool(matrix[2, third] < 0))
        return order, flipped

    def canonical(self) -> "Geometry":
        """The same voxels with the index axes permuted and flipped to run closest to R, A and S."""
        order, flipped = self.canonical_axes()
        first = [self.shape[axis] - 1 if axis in _flipped_axes(order, flipped) else 0 for axis in range(3)]
        signs = np.where(flipped, -1.0, 1.0)
        return Geometry(
            shape=_triple_of(self.shape, order),
            spacing_mm=_triple_of(self.spacing_mm, order),
            origin_mm=_triple(self.voxel_to_world(first)),
            direction=tuple((self.matrix[:, list(order)] * signs).ravel()),
        )

    @property
    def orientation(self) -> str:
        """Where the index axes x, y, z run, e.g. LPS: to the patient's left, posterior, superior."""
        order, flipped = self.canonical_axes()
        letters = {axis: pair[reverse] for axis, pair, reverse in zip(order, ("RL", "AP", "SI"), flipped, strict=True)}
        return "".join(letters[axis] for axis in range(3))

    def differences(self, other: "Geometry", tolerance_mm: float = 1e-3) -> list[str]:
        """What keeps two grids from being the same, in words; empty if nothing does.

        Args:
            other: grid to compare with.
            tolerance_mm: for spacing and origin; also bounds the elements of the direction, which have no unit.
        """
        found = [f"shape {_by(self.shape)} against {_by(other.shape)}"] if self.shape != other.shape else []
        for name in ("spacing_mm", "origin_mm", "direction"):
            mine, theirs = getattr(self, name), getattr(other, name)
            if np.abs(np.subtract(mine, theirs)).max() > tolerance_mm:
                word, separator = name.removesuffix("_mm"), "x" if name == "spacing_mm" else ", "
                found.append(f"{word} {_by(mine, separator)} against {_by(theirs, separator)}")
        return found


def _set(geometry: Geometry, name: str, value: Any) -> None:
    object.__setattr__(geometry, name, value)  # the one way to tidy a field of a frozen dataclass


def _flipped_axes(order: tuple[int, int, int], flipped: tuple[bool, bool, bool]) -> list[int]:
    return [axis for axis, reverse in zip(order, flipped, strict=True) if reverse]


def _triple(values: NDArray[np.float64]) -> tuple[float, float, float]:
    return float(values[0]), float(values[1]), float(values[2])


def _triple_of(values: tuple[_T, _T, _T], order: tuple[int, int, int]) -> tuple[_T, _T, _T]:
    return values[order[0]], values[order[1]], values[order[2]]


def _by(values: Sequence[float] | NDArray[np.float64], separator: str = "x") -> str:
    return separator.join(f"{value:.6g}" for value in values)
