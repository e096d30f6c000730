"""Small copies of a case: the part around its objects, in larger voxels, as NIfTI in memory."""

import gzip
import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moe_pipeline.imaging.geometry import Box, Geometry
from moe_pipeline.imaging.volume import Volume

COARSEST_MM = 2.0
"""The whole image is shown where its copy's voxels need be no larger than this."""
MARGIN_MM = 20.0
"""What is shown around the objects where the whole image does not fit."""
_BYTES_PER_VOXEL = 0.75
"""Of image and label maps, packed; only a first guess."""
_TOO_MANY = 1.1
_INTENSITY_PERCENT = (0.1, 99.9)
_HEADER_BYTES, _VOXELS_AT = 348, 352
_LEVEL = 4
"""Of gzip: as small as with 6 for such numbers, in a quarter of the time."""
_UINT8, _INT16, _UINT16 = 2, 4, 512


@dataclass(frozen=True, slots=True)
class Cut:
    """Which part of an image a copy shows, and how finely."""

    box: Box
    """In the image's canonical voxels; each side a multiple of its step."""
    steps: tuple[int, int, int]
    """Voxels of the image in one of the copy, per axis."""
    whole: bool
    """Whether it is the whole image."""

    def grid(self, source: Geometry) -> Geometry:
        """The copy's grid."""
        part = source.cropped(self.box)
        spacing = tuple(mm * step for mm, step in zip(part.spacing_mm, self.steps, strict=True))
        shape = tuple(n // step for n, step in zip(part.shape, self.steps, strict=True))
        origin = part.voxel_to_world([(step - 1) / 2 for step in self.steps])
        return replace(
            part,
            shape=(shape[0], shape[1], shape[2]),
            spacing_mm=(spacing[0], spacing[1], spacing[2]),
            origin_mm=(float(origin[0]), float(origin[1]), float(origin[2])),
        )


def choose_cut(source: Geometry, objects: Box | None, budget_bytes: float) -> Cut:
    """The finest look at the objects that fits: the whole image if that can be had at 2 mm, else what is around them.

    Args:
        source: canonical grid of the image.
        objects: tight box around everything labelled or clicked; None if there is nothing.
        budget_bytes: what the packed copy may take.
    """
    everything: Box = ((0, source.shape[0]), (0, source.shape[1]), (0, source.shape[2]))
    voxels = budget_bytes / _BYTES_PER_VOXEL
    around = everything if objects is None else _grown(objects, source)
    whole = objects is None or _spacing(source, everything, voxels) <= COARSEST_MM or around == everything
    box = everything if whole else around
    wanted_mm = _spacing(source, box, voxels)
    cut = _cut(source, box, [round(wanted_mm / mm) for mm in source.spacing_mm], whole=whole)
    while np.prod(cut.grid(source).shape) > _TOO_MANY * voxels:  # rounding may have made the steps too small
        cut = coarser(cut, source, 1.0)
    return cut


def coarser(cut: Cut, source: Geometry, by: float) -> Cut:
    """The same part in voxels that are larger by a factor along each axis, and by one step at least along one."""
    steps = [max(step, round(step * by)) for step in cut.steps]
    if steps == list(cut.steps):
        finest = int(np.argmin([step * mm for step, mm in zip(cut.steps, source.spacing_mm, strict=True)]))
        steps[finest] += 1
    return _cut(source, cut.box, steps, whole=cut.whole)


def image_copy(image: Volume, cut: Cut) -> Volume:
    """Means over the voxels of the image in each one of the copy; float32."""
    part = image.array[tuple(slice(*side) for side in cut.box)]
    slow_first = sorted(range(3), key=lambda axis: -abs(part.strides[axis]))
    for axis in slow_first:  # one after the other, so that the array shrinks early; whole planes add up fastest
        step = cut.steps[axis]
        if step > 1:
            sides = (*part.shape[:axis], part.shape[axis] // step, step, *part.shape[axis + 1 :])
            part = part.reshape(sides).mean(axis=axis + 1, dtype=np.float32)
    return Volume(np.ascontiguousarray(part, dtype=np.float32), cut.grid(image.geometry))


def label_copy(labels: Volume, cut: Cut) -> Volume:
    """The label in the middle of each voxel of the copy."""
    places = tuple(slice(start + step // 2, stop, step) for (start, stop), step in zip(cut.box, cut.steps, strict=True))
    return Volume(np.ascontiguousarray(labels.array[places]), cut.grid(labels.geometry))


def rounded(image: Volume) -> tuple[NDArray[Any], float, float]:
    """Whole numbers with slope and intercept, rounded to half of the image's own noise, which packs to a third.

    Returns:
        uint8 where 256 levels are enough, else int16; slope; intercept.
    """
    values = image.array
    low, high = (float(value) for value in np.percentile(values, _INTENSITY_PERCENT))
    spread = max(high - low, 1e-6 * max(abs(high), 1.0))
    noise = float(np.median(np.abs(np.diff(values, axis=0)))) / 0.95 if values.shape[0] > 1 else 0.0
    step = min(max(noise / 2, spread / 1000), spread / 64)
    levels = np.round((values - low) / step)
    bottom, top = float(levels.min()), float(levels.max())
    if top - bottom < 256:
        return (levels - bottom).astype(np.uint8), step, low + bottom * step
    return np.clip(levels, -32768, 32767).astype(np.int16), step, low


def packed(array: NDArray[Any], grid: Geometry, slope: float = 1.0, intercept: float = 0.0) -> bytes:
    """A gzipped NIfTI-1 file that says nothing but voxels and grid.

    Args:
        array: (x, y, z) of uint8, int16 or uint16.
        grid: where they lie; RAS, as NIfTI has it.
        slope: of the stored numbers.
        intercept: added to them.
    """
    codes = {"uint8": _UINT8, "int16": _INT16, "uint16": _UINT16}
    header = bytearray(_VOXELS_AT)
    struct.pack_into("<i", header, 0, _HEADER_BYTES)
    struct.pack_into("<8h", header, 40, 3, *grid.shape, 1, 1, 1, 1)
    struct.pack_into("<2h", header, 70, codes[array.dtype.name], 8 * array.dtype.itemsize)
    struct.pack_into("<8f", header, 76, 1.0, *grid.spacing_mm, 0, 0, 0, 0)
    struct.pack_into("<3f", header, 108, _VOXELS_AT, slope, intercept)
    header[123] = 2  # millimetres
    struct.pack_into("<2h", header, 252, 0, 2)  # no qform; an sform in the patient's coordinates
    struct.pack_into("<12f", header, 280, *grid.affine[:3].ravel())
    header[344:348] = b"n+1\0"
    voxels = array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes(order="F")
    return gzip.compress(bytes(header) + voxels, compresslevel=_LEVEL, mtime=0)


def _cut(source: Geometry, box: Box, steps: Sequence[int], *, whole: bool) -> Cut:
    """With steps of at least a voxel and at most the image, and the sides that go with them."""
    x, y, z = (min(max(1, step), n) for step, n in zip(steps, source.shape, strict=True))
    sides = (_multiple(side, n, step) for side, n, step in zip(box, source.shape, (x, y, z), strict=True))
    first, second, third = sides
    return Cut((first, second, third), (x, y, z), whole)


def _spacing(source: Geometry, box: Box, voxels: float) -> float:
    """Edge in mm of voxels of which so many fill the box; never below the image's own finest."""
    sides = [(stop - start) * mm for (start, stop), mm in zip(box, source.spacing_mm, strict=True)]
    return max(float((np.prod(sides) / voxels) ** (1 / 3)), min(source.spacing_mm))


def _grown(box: Box, source: Geometry) -> Box:
    margins = [round(MARGIN_MM / mm) for mm in source.spacing_mm]
    x, y, z = (
        (max(0, start - margin), min(n, stop + margin))
        for (start, stop), margin, n in zip(box, margins, source.shape, strict=True)
    )
    return x, y, z


def _multiple(side: tuple[int, int], n: int, step: int) -> tuple[int, int]:
    """The interval with a length that is a multiple of the step: longer if the image has room, else shorter."""
    start, stop = side
    length = -(-(stop - start) // step) * step
    if start + length > n:
        start = max(0, n - length)
    if start + length > n:
        length -= step
    return start, start + length
