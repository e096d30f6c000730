"""Following an object out of the crop: half a crop further wherever its mask touches a face."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from moe_pipeline.imaging.components import label_components
from moe_pipeline.imaging.crop_grid import CropGrid, WindowIndex
from moe_pipeline.inference.windows.stitch import StitchedLogits, Windows, stitch

_DEEPEST_CAP = 0.25  # of the crop's edge


@dataclass(frozen=True, slots=True)
class BoundaryContact:
    """A face that the mask touches.

    Attributes:
        window: whose face it is.
        axis: across it.
        sign: 1 at the window's end, -1 at its beginning.
        voxels: low-resolution voxels of the mask along the other axes, with nothing known beyond.
    """

    window: WindowIndex
    axis: int
    sign: int
    voxels: NDArray[np.bool_]

    def step(self, crop_grid: CropGrid) -> WindowIndex:
        """The window half a window further."""
        moved = np.array(self.window)
        moved[self.axis] += self.sign * crop_grid.half[self.axis]
        return crop_grid.clamped(moved)


def boundary_contacts(
    stitched: StitchedLogits, mask: NDArray[np.bool_], windows: Iterable[WindowIndex]
) -> list[BoundaryContact]:
    """All of them.

    Args:
        stitched: the windows' answers.
        mask: of the object, the stitched logits's shape.
        windows: of the stitched logits.
    """
    contacts = []
    for window in windows:
        for axis in range(3):
            for sign in (-1, 1):
                voxels = _open_voxels(stitched, mask, window, axis, sign)
                if voxels is not None and voxels.any():
                    contacts.append(BoundaryContact(window, axis, sign, voxels))
    return contacts


def with_end_caps(stitched: StitchedLogits, contacts: Iterable[BoundaryContact]) -> StitchedLogits:
    """The mask with a round end instead of a straight cut at faces where nobody can follow it.

    Args:
        stitched: the windows' answers.
        contacts: where the object goes on, as far as is known.
    """
    logits = stitched.logits.copy()
    spacing_mm = stitched.crop_grid.geometry.spacing_mm
    for contact in contacts:
        window = logits[_place(stitched, contact.window)]  # (*low), a view
        inward = np.moveaxis(window, contact.axis, 0)[:: -contact.sign]  # (depth, ...), from the face
        across = [spacing_mm[axis] / spacing_mm[contact.axis] for axis in range(3) if axis != contact.axis]
        to_rim = ndimage.distance_transform_edt(np.pad(contact.voxels, 1), sampling=across)[1:-1, 1:-1]
        depth = min(float(to_rim.max()), _DEEPEST_CAP * stitched.crop_grid.window[contact.axis])
        from_middle = 1 - to_rim / to_rim.max()  # 0 in the middle of the cut, nearly 1 at its rim
        missing = depth * (1 - np.sqrt(1 - from_middle**2))  # low-resolution voxels that a half ball leaves free
        for layer in range(int(np.ceil(depth))):
            cut = contact.voxels & (layer + 0.5 < missing)
            inward[layer][cut] = -np.abs(inward[layer][cut])
    return replace(stitched, logits=logits)


def _open_voxels(
    stitched: StitchedLogits, mask: NDArray[np.bool_], window: WindowIndex, axis: int, sign: int
) -> NDArray[np.bool_] | None:
    size = stitched.crop_grid.window[axis]
    beyond = window[axis] + (size if sign > 0 else -1)  # in low-resolution voxels of the crop grid
    if not 0 <= beyond < stitched.crop_grid.geometry.shape[axis]:
        return None
    place = list(_place(stitched, window))
    contact = place[axis].stop - 1 if sign > 0 else place[axis].start
    place[axis] = slice(contact, contact + 1)
    voxels: NDArray[np.bool_] = mask[tuple(place)].squeeze(axis)  # (*low) without the axis
    if 0 <= contact + sign < mask.shape[axis]:
        place[axis] = slice(contact + sign, contact + sign + 1)
        voxels = voxels & ~stitched.known[tuple(place)].squeeze(axis)
    return voxels


def _place(stitched: StitchedLogits, window: WindowIndex) -> tuple[slice, slice, slice]:
    firsts = (np.array(window) - stitched.corner).tolist()
    x, y, z = (slice(first, first + side) for first, side in zip(firsts, stitched.crop_grid.window, strict=True))
    return x, y, z


_SAME_OBJECT = 0.6
"""Dice, where a new window and the mask so far overlap, from which both show one object. Measured: lower and higher
limits were worse on nano's zero-shot sets."""

Ask = Callable[[WindowIndex, NDArray[np.float32], NDArray[np.int64]], NDArray[np.float32]]
"""Given a window, what is known of its logits (*low; 0 where nothing is) and a voxel (3,) of it inside the object,
the decoder's logits (*low)."""


@dataclass(frozen=True, slots=True)
class Extension:
    """Where following an object ended.

    Attributes:
        stitched: the answers of all windows.
        n_windows: those asked, the first ones and those not taken included.
        complete: False if the object still touched a face when no more windows were allowed.
    """

    stitched: StitchedLogits
    n_windows: int
    complete: bool


def extend_windows(
    crop_grid: CropGrid,
    windows: Windows,
    seeds: NDArray[np.int64],
    ask: Ask,
    most: int,
    prior: StitchedLogits | None = None,
) -> Extension:
    """Ask half a window further until the mask touches no face that cuts the image, or no more may be asked.

    The face with the largest part of the mask comes first. Only what is connected to the clicks grows, and of a new
    window's mask only what is connected to the mask so far is taken. Where windows overlap their logits are blended. A
    window that shows something else there than the object so far is not taken at all, so that a decoder which has lost
    its object does not lead away; the mask then has a round end where it would have a straight one.

    Args:
        crop_grid: of the view.
        windows: answers to the user's clicks, at least one.
        seeds: (n, 3) low-resolution voxels of the clicks inside the object, in the crop grid.
        ask: the decoder.
        most: windows in all.
        prior: a coarser answer on the same crop grid, which tells a new window what to expect.
    """
    extended: Windows = {}
    refused: set[WindowIndex] = set()
    while True:
        stitched = stitch(crop_grid, windows, extended)
        mask = connected((stitched.logits > 0) & in_image(stitched), seeds - stitched.corner)
        contacts = boundary_contacts(stitched, mask, [*windows, *extended]) if most > 1 else []
        step = _largest(contacts, crop_grid, [*windows, *extended, *refused])
        n_windows = len(windows) + len(extended) + len(refused)
        if step is None or n_windows >= most:
            whole = with_end_caps(stitched, contacts) if prior is None else stitch(crop_grid, windows, extended, prior)
            return Extension(whole, n_windows, step is None)
        box = crop_grid.box(step)
        known = stitched.read(box, stitched.known, fill=False)
        expected = np.zeros(known.shape, np.float32) if prior is None else prior.read(box, prior.logits, fill=0)
        inside = stitched.read(box, mask, fill=False)
        place = _deepest(inside, crop_grid.geometry.spacing_mm)
        answer = ask(step, np.where(known, stitched.read(box, stitched.logits, fill=0), expected), place)
        touching = connected(answer > 0, np.argwhere(inside))
        if _agreement(touching & known, inside) < _SAME_OBJECT:
            refused.add(step)
        else:
            extended[step] = np.where((answer > 0) & ~touching, -answer, answer)


def connected(mask: NDArray[np.bool_], seeds: NDArray[np.int64]) -> NDArray[np.bool_]:
    """The parts of a mask that hold a seed (n, 3); all parts if none does, so that nothing is lost."""
    numbers, sizes = label_components(mask)
    if len(sizes) <= 1:
        return mask
    held = ((seeds >= 0) & (seeds < mask.shape)).all(axis=1)
    touched = set(np.unique(numbers[tuple(seeds[held].T)]).tolist()) - {0}
    return np.isin(numbers, list(touched)) if touched else mask


def in_image(stitched: StitchedLogits) -> NDArray[np.bool_]:
    """Which low-resolution voxels of stitched logits lie over the image, broadcastable to its shape."""
    within = np.ones((1, 1, 1), dtype=bool)
    for axis, ((start, stop), side) in enumerate(zip(stitched.box, stitched.crop_grid.geometry.shape, strict=True)):
        along = (np.arange(start, stop) >= 0) & (np.arange(start, stop) < side)
        within = within & np.expand_dims(along, [other for other in range(3) if other != axis])
    return within


def _largest(contacts: list[BoundaryContact], crop_grid: CropGrid, asked: Iterable[WindowIndex]) -> WindowIndex | None:
    """The window that takes up most of the mask at the faces it lies behind."""
    counts: dict[WindowIndex, int] = {}
    for contact in contacts:
        step = contact.step(crop_grid)
        counts[step] = counts.get(step, 0) + int(np.count_nonzero(contact.voxels))
    for step in asked:
        counts.pop(step, None)
    return max(counts, key=lambda step: counts[step]) if counts else None


def _agreement(answer: NDArray[np.bool_], known: NDArray[np.bool_]) -> float:
    """Dice of two masks; 0 if both are empty."""
    return 2 * float((answer & known).sum()) / max(float(answer.sum() + known.sum()), 1.0)


def _deepest(inside: NDArray[np.bool_], spacing_mm: Sequence[float]) -> NDArray[np.int64]:
    """The voxel (3,) farthest from the mask's border, away from the window's faces where the mask allows it."""
    middle = tuple(slice(side // 4, side - side // 4) for side in inside.shape)
    inner = np.zeros_like(inside)
    inner[middle] = inside[middle]
    edges = np.asarray(spacing_mm) / min(spacing_mm)
    depth = ndimage.distance_transform_edt(np.pad(inside, 1), sampling=edges)[1:-1, 1:-1, 1:-1]
    wanted = np.where(inner if inner.any() else inside, depth, -1.0)
    return np.array(np.unravel_index(int(wanted.argmax()), inside.shape))
