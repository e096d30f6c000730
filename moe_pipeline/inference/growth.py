"""Following an object out of the crop: half a crop further wherever its mask touches a face."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from moe_pipeline.imaging.components import label_components
from moe_pipeline.imaging.lattice import CellLattice, Start
from moe_pipeline.inference.canvas import Canvas, Windows, blend
from moe_pipeline.inference.faces import OpenFace, capped, open_faces

_SAME_OBJECT = 0.6
"""Dice, where a new window and the mask so far overlap, from which both show one object. Measured: lower and higher
limits were worse on nano's zero-shot sets."""

Ask = Callable[[Start, NDArray[np.float32], NDArray[np.int64]], NDArray[np.float32]]
"""Given a window, what is known of its logits (l, l, l; 0 where nothing is) and a cell (3,) of it inside the object,
the decoder's logits (l, l, l)."""


@dataclass(frozen=True, slots=True)
class Growth:
    """Where following an object ended.

    Attributes:
        canvas: the answers of all windows.
        n_windows: those asked, the first ones and those not taken included.
        complete: False if the object still touched a face when no more windows were allowed.
    """

    canvas: Canvas
    n_windows: int
    complete: bool


def grow(
    lattice: CellLattice,
    windows: Windows,
    seeds: NDArray[np.int64],
    ask: Ask,
    most: int,
    prior: Canvas | None = None,
) -> Growth:
    """Ask half a window further until the mask touches no face that cuts the image, or no more may be asked.

    The face with the largest part of the mask comes first. Only what is connected to the clicks grows, and of a new
    window's mask only what is connected to the mask so far is taken. Where windows overlap their logits are blended. A
    window that shows something else there than the object so far is not taken at all, so that a decoder which has lost
    its object does not lead away; the mask then has a round end where it would have a straight one.

    Args:
        lattice: of the view.
        windows: answers to the user's clicks, at least one.
        seeds: (n, 3) cells of the clicks inside the object, in the lattice.
        ask: the decoder.
        most: windows in all.
        prior: a coarser answer on the same lattice, which tells a new window what to expect.
    """
    grown: Windows = {}
    refused: set[Start] = set()
    while True:
        canvas = blend(lattice, windows, grown)
        mask = connected((canvas.logits > 0) & in_image(canvas), seeds - canvas.corner)
        faces = open_faces(canvas, mask, [*windows, *grown]) if most > 1 else []
        step = _largest(faces, lattice, [*windows, *grown, *refused])
        n_windows = len(windows) + len(grown) + len(refused)
        if step is None or n_windows >= most:
            whole = capped(canvas, faces) if prior is None else blend(lattice, windows, grown, prior)
            return Growth(whole, n_windows, step is None)
        box = lattice.box(step)
        known = canvas.read(box, canvas.known, fill=False)
        expected = np.zeros(known.shape, np.float32) if prior is None else prior.read(box, prior.logits, fill=0)
        inside = canvas.read(box, mask, fill=False)
        answer = ask(step, np.where(known, canvas.read(box, canvas.logits, fill=0), expected), _deepest(inside))
        touching = connected(answer > 0, np.argwhere(inside))
        if _agreement(touching & known, inside) < _SAME_OBJECT:
            refused.add(step)
        else:
            grown[step] = np.where((answer > 0) & ~touching, -answer, answer)


def connected(mask: NDArray[np.bool_], seeds: NDArray[np.int64]) -> NDArray[np.bool_]:
    """The parts of a mask that hold a seed (n, 3); all parts if none does, so that nothing is lost."""
    numbers, sizes = label_components(mask)
    if len(sizes) <= 1:
        return mask
    held = ((seeds >= 0) & (seeds < mask.shape)).all(axis=1)
    touched = set(np.unique(numbers[tuple(seeds[held].T)]).tolist()) - {0}
    return np.isin(numbers, list(touched)) if touched else mask


def in_image(canvas: Canvas) -> NDArray[np.bool_]:
    """Which cells of a canvas lie over the image, broadcastable to its shape."""
    within = np.ones((1, 1, 1), dtype=bool)
    for axis, ((start, stop), side) in enumerate(zip(canvas.box, canvas.lattice.geometry.shape, strict=True)):
        along = (np.arange(start, stop) >= 0) & (np.arange(start, stop) < side)
        within = within & np.expand_dims(along, [other for other in range(3) if other != axis])
    return within


def _largest(faces: list[OpenFace], lattice: CellLattice, asked: Iterable[Start]) -> Start | None:
    """The window that takes up most of the mask at the faces it lies behind."""
    counts: dict[Start, int] = {}
    for face in faces:
        step = face.step(lattice)
        counts[step] = counts.get(step, 0) + int(np.count_nonzero(face.cells))
    for step in asked:
        counts.pop(step, None)
    return max(counts, key=lambda step: counts[step]) if counts else None


def _agreement(answer: NDArray[np.bool_], known: NDArray[np.bool_]) -> float:
    """Dice of two masks; 0 if both are empty."""
    return 2 * float((answer & known).sum()) / max(float(answer.sum() + known.sum()), 1.0)


def _deepest(inside: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The cell (3,) farthest from the mask's border, away from the window's faces where the mask allows it."""
    window = inside.shape[0]
    quarter = window // 4
    inner = np.zeros_like(inside)
    middle = slice(quarter, window - quarter)
    inner[middle, middle, middle] = inside[middle, middle, middle]
    depth = ndimage.distance_transform_edt(np.pad(inside, 1))[1:-1, 1:-1, 1:-1]
    wanted = np.where(inner if inner.any() else inside, depth, -1.0)
    return np.array(np.unravel_index(int(wanted.argmax()), inside.shape))
