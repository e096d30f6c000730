"""Image files written by SimpleITK, not by our code."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

IDENTITY = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)


def write_file(
    path: Path,
    array: NDArray[Any],
    spacing: Sequence[float] = (1.0, 1.0, 1.0),
    origin: Sequence[float] = (0.0, 0.0, 0.0),
    direction: Sequence[float] | NDArray[np.float64] = IDENTITY,
) -> Any:
    """Write an array (x, y, z) with a geometry in LPS, and give the image."""
    image = sitk.GetImageFromArray(array.transpose())  # (x, y, z) -> (z, y, x)
    image.SetSpacing(spacing)
    image.SetOrigin(origin)
    image.SetDirection(np.ravel(direction).tolist())
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(image, str(path), useCompression=True)
    return image


def write_phantom_dataset(folder: Path, n_cases: int = 3, *, channels: int = 1, seed: int = 0) -> Path:
    """Cases p000, p001, ... with unequal sides, anisotropic voxels and changing axis orders.

    Class 1 `ball` is a bright ellipsoid in every case, class 3 `bar` a dark bar in every second one.
    """
    random = np.random.default_rng(seed)
    for number in range(n_cases):
        shape = (20 + 2 * number, 26, 14)  # x, y, z
        x, y, z = np.indices(shape)
        ball = ((x - 8) / 5) ** 2 + ((y - 12) / 7) ** 2 + ((z - 6) / 4) ** 2 <= 1
        bar = (x >= 15) & (x < 18) & (y >= 5) & (y < 20) & (z == 9) & (number % 2 == 0)
        labels = np.where(ball, 1, np.where(bar, 3, 0)).astype(np.uint8)
        for channel in range(channels):
            image = random.normal(100 + 80 * ball - 60 * bar, 5).astype(np.float32)
            write_phantom(folder / "imagesTr" / f"p{number:03d}_{channel:04d}.nii.gz", image, number)
        write_phantom(folder / "labelsTr" / f"p{number:03d}.nii.gz", labels, number)
    description = {
        "channel_names": {str(channel): f"MR{channel}" for channel in range(channels)},
        "labels": {"background": 0, "ball": 1, "bar": 3},
        "numTraining": n_cases,
        "file_ending": ".nii.gz",
    }
    (folder / "dataset.json").write_text(json.dumps(description))
    return folder


def write_phantom(path: Path, array: NDArray[Any], orientation: int = 0) -> None:
    """One file with voxels of 1.0 x 1.2 x 2.5 mm; `orientation` picks an axis order, oblique by 10 degrees."""
    order = [(0, 1, 2), (1, 2, 0), (2, 0, 1)][orientation % 3]
    cos, sin = np.cos(np.deg2rad(10)), np.sin(np.deg2rad(10))
    tilt = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])
    write_file(path, array, (1.0, 1.2, 2.5), (-7.0, 11.0 + orientation, 30.0), tilt @ np.eye(3)[:, list(order)])


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
