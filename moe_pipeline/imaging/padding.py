"""Padding of CT: scanners fill what lies outside the round field of view with a number that no tissue has."""

import numpy as np

from moe_pipeline.imaging.volume import Volume

_BELOW_ALL_CT = -1100  # Hounsfield units; air is -1000, and 12 bits begin at -1024
_MIN_GAP = 0.1  # of the range of all other voxels; what lies nearer is noise of air


def without_padding(volume: Volume) -> Volume:
    """The same volume with padding set to the lowest value that is none, which in CT is air.

    Padding is one number below -1100, such as -2048 or -3024, that lies far below every other voxel. It would widen the
    range to which intensities are scaled. Volumes without are returned as they are, and nothing is changed in place.

    Args:
        volume: any number type.
    """
    lowest = volume.array.min()
    if not lowest < _BELOW_ALL_CT:
        return volume
    inside = volume.array[volume.array != lowest]  # (n,)
    if inside.size == 0 or not np.isfinite(lowest):
        return volume
    least, most = float(inside.min()), float(inside.max())
    if least < _BELOW_ALL_CT or least - float(lowest) <= _MIN_GAP * (most - least):
        return volume
    return Volume(np.where(volume.array == lowest, inside.min(), volume.array), volume.geometry)
