"""Volumes for made sources."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from numpy.typing import NDArray

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
    image = sitk.GetImageFromArray(array.transpose())  # (x, y, z) -> (z, y, x)
    image.SetSpacing(spacing)
    image.SetOrigin(origin)
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(image, str(path))
    return array


@pytest.fixture(scope="session")
def shear() -> Callable[[Path, float], None]:
    """Makes the header of a NIfTI file a sheared one; see `shear_file`."""
    return shear_file


def shear_file(path: Path, by: float) -> None:
    """Tilt the first index axis of a NIfTI file towards the second."""
    affine_at = 280
    plain = path.with_name("plain.nii")
    sitk.WriteImage(sitk.ReadImage(str(path)), str(plain))
    content = bytearray(plain.read_bytes())
    rows = np.frombuffer(content, "<f4", 12, affine_at).reshape(3, 4).copy()
    rows[:, 0] += by * rows[:, 1]
    content[affine_at : affine_at + 48] = rows.tobytes()
    content[252:254] = b"\0\0"  # no qform to fall back on
    path.write_bytes(bytes(content))
    plain.unlink()
