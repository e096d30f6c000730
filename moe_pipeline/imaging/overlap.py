"""Dice of one class, with its empty cases spelled out."""

import numpy as np
from numpy.typing import NDArray


def dice(prediction: NDArray[np.bool_], reference: NDArray[np.bool_]) -> float:
    """Overlap of two masks on the same grid.

    Args:
        prediction: boolean mask, any shape.
        reference: boolean mask, the same shape.

    Returns:
        2|P∩R| / (|P|+|R|), in [0, 1]. NaN if both are empty: the class is absent, not perfect.

    Raises:
        TypeError: if a mask is not boolean.
        ValueError: if the shapes differ.
    """
    for name, mask in (("prediction", prediction), ("reference", reference)):
        if mask.dtype != np.bool_:
            raise TypeError(f"{name} must be boolean, got {mask.dtype}")
    if prediction.shape != reference.shape:
        raise ValueError(f"shapes differ: prediction {prediction.shape}, reference {reference.shape}")
    n_voxels = int(np.count_nonzero(prediction)) + int(np.count_nonzero(reference))
    if n_voxels == 0:
        return float("nan")
    return 2 * int(np.count_nonzero(prediction & reference)) / n_voxels
