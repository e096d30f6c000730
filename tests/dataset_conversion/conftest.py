"""Volumes for made sources."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.phantoms.images import shear_file, write_file

SHAPE = (9, 8, 6)  # x, y, z


@pytest.fixture(scope="session")
def write_volume() -> Callable[..., NDArray[np.generic]]:
    """Writes a volume and gives its array (x, y, z); see `write`."""
    return write


def write(
    path: Path,
    array: NDArray[np.generic] | int | None = None,
    spacing: tuple[float, float, float] = (1.0, 1.5, 3.0),
    origin: tuple[float, float, float] = (0.0, 0.0, 0.0),
) -> NDArray[np.generic]:
    """An image of noise, or a label that is 0 but for a block of the value `array`, or the array itself."""
    if array is None:
        array = np.random.default_rng(len(path.name)).normal(100, 10, SHAPE).astype(np.float32)
    elif isinstance(array, int):
        value, array = array, np.zeros(SHAPE, np.uint8)
        array[2:5, 1:6, 2:4] = value
    write_file(path, array, spacing, origin)
    return array


@pytest.fixture(scope="session")
def shear() -> Callable[[Path, float], None]:
    """Makes the header of a NIfTI file a sheared one; see `shear_file`."""
    return shear_file
