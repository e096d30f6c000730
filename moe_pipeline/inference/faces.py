"""Where a mask runs into the faces of the crops it was seen in, with image beyond that nobody looked at."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from moe_pipeline.imaging.lattice import CellLattice, Start
from moe_pipeline.inference.canvas import Canvas

_DEEPEST_CAP = 0.25  # of the cube's edge


@dataclass(frozen=True, slots=True)
class OpenFace:
    """A face that the mask touches.

    Attributes:
        window: whose face it is.
        axis: across it.
        sign: 1 at the window's end, -1 at its beginning.
        cells: (l, l) of the mask, along the other axes, with nothing known beyond.
    """

    window: Start
    axis: int
    sign: int
    cells: NDArray[np.bool_]

    def step(self, lattice: CellLattice) -> Start:
        """The window half a window further."""
        moved = np.array(self.window)
        moved[self.axis] += self.sign * lattice.half
        return lattice.clamped(moved)


def open_faces(canvas: Canvas, mask: NDArray[np.bool_], windows: Iterable[Start]) -> list[OpenFace]:
    """All of them.

    Args:
        canvas: the windows' answers.
        mask: of the object, the canvas's shape.
        windows: of the canvas.
    """
    faces = []
    for window in windows:
        for axis in range(3):
            for sign in (-1, 1):
                cells = _open_cells(canvas, mask, window, axis, sign)
                if cells is not None and cells.any():
                    faces.append(OpenFace(window, axis, sign, cells))
    return faces


def capped(canvas: Canvas, faces: Iterable[OpenFace]) -> Canvas:
    """The mask with a round end instead of a straight cut at faces where nobody can follow it.

    Args:
        canvas: the windows' answers.
        faces: where the object goes on, as far as is known.
    """
    logits = canvas.logits.copy()
    for face in faces:
        window = logits[_place(canvas, face.window)]  # (l, l, l), a view
        inward = np.moveaxis(window, face.axis, 0)[:: -face.sign]  # (depth, l, l), from the face
        to_rim = ndimage.distance_transform_edt(np.pad(face.cells, 1))[1:-1, 1:-1]
        depth = min(float(to_rim.max()), _DEEPEST_CAP * canvas.lattice.window)
        from_middle = 1 - to_rim / to_rim.max()  # 0 in the middle of the cut, nearly 1 at its rim
        missing = depth * (1 - np.sqrt(1 - from_middle**2))  # cells that a half ball leaves free
        for layer in range(int(np.ceil(depth))):
            cut = face.cells & (layer + 0.5 < missing)
            inward[layer][cut] = -np.abs(inward[layer][cut])
    return replace(canvas, logits=logits)


def _open_cells(
    canvas: Canvas, mask: NDArray[np.bool_], window: Start, axis: int, sign: int
) -> NDArray[np.bool_] | None:
    size = canvas.lattice.window
    beyond = window[axis] + (size if sign > 0 else -1)  # in cells of the lattice
    if not 0 <= beyond < canvas.lattice.geometry.shape[axis]:
        return None
    place = list(_place(canvas, window))
    face = place[axis].stop - 1 if sign > 0 else place[axis].start
    place[axis] = slice(face, face + 1)
    cells: NDArray[np.bool_] = mask[tuple(place)].squeeze(axis)  # (l, l)
    if 0 <= face + sign < mask.shape[axis]:
        place[axis] = slice(face + sign, face + sign + 1)
        cells = cells & ~canvas.known[tuple(place)].squeeze(axis)
    return cells


def _place(canvas: Canvas, window: Start) -> tuple[slice, slice, slice]:
    size = canvas.lattice.window
    x, y, z = (slice(first, first + size) for first in (np.array(window) - canvas.corner).tolist())
    return x, y, z
