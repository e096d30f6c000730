"""CT images painted on real label maps: the KiTS19 labels are public without asking, their images are not.

The shapes and places of kidneys and tumours are real, the grey values are not: a body with fat, muscle, a spine, and
organs of plausible Hounsfield units with texture, blurred and noisy. Good enough to train an expert, not to judge one.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from moe_pipeline.imaging.io.files import read_label_map, write_image, write_label_map
from moe_pipeline.imaging.resampling import resample
from moe_pipeline.imaging.volume import Volume

CLASSES = {1: "kidney", 2: "tumour"}
SPACING_MM = 1.5
_AIR, _FAT, _MUSCLE, _BONE = -1000.0, -100.0, 45.0, 450.0


def paint_dataset(labels: Path, out: Path) -> list[tuple[Path, Path]]:
    """Write an image and a label map at 1.5 mm for every case of a folder of KiTS19 labels; gives the pairs."""
    pairs = []
    for number, folder in enumerate(sorted(path for path in labels.iterdir() if path.is_dir())):
        image, label = (out / part / f"{folder.name}.nii.gz" for part in ("images", "labels"))
        if not (image.is_file() and label.is_file()):
            fine = read_label_map(folder / "segmentation.nii.gz")
            coarse = resample(fine, fine.geometry.resampled(SPACING_MM), order="nearest", outside=0)
            painted = Volume(paint(coarse.array, seed=number), coarse.geometry)
            write_label_map(coarse, label, coarse.geometry)
            write_image(painted, image, coarse.geometry)
        pairs.append((image, label))
    return pairs


def paint(labels: NDArray[np.integer], seed: int) -> NDArray[np.int16]:
    """Hounsfield units for a label map (x, y, z) in RAS: 1 kidney, 2 tumour."""
    random = np.random.default_rng(seed)
    x, y, _ = np.meshgrid(*(np.linspace(-1, 1, n) for n in labels.shape), indexing="ij", sparse=True)
    places = np.argwhere(labels > 0)
    middle = 2 * places.mean(axis=0) / np.asarray(labels.shape) - 1  # the body lies around its kidneys
    x, y = x - middle[0], y - middle[1] - 0.15
    body, wall = (x / 0.85) ** 2 + (y / 0.62) ** 2, (x / 0.75) ** 2 + (y / 0.5) ** 2
    spine = (x / 0.1) ** 2 + ((y + 0.28) / 0.1) ** 2
    field = np.where(body < 1, _FAT, _AIR) + np.zeros(labels.shape)
    texture = _smooth(random, labels.shape, 6.0)
    inside = np.broadcast_to(wall < 1, labels.shape)
    field[inside] = _MUSCLE
    field[inside & (texture > 0.9)] = _FAT  # between the bowel's loops
    field[inside & (_smooth(random, labels.shape, 8.0) > 1.3)] = random.uniform(60, 120)
    field[np.broadcast_to(spine < 1, labels.shape)] = _BONE
    field[labels == 1] = random.uniform(90, 200)
    field[labels == 2] = random.uniform(20, 90)
    field += np.where(field > _AIR, 12 * _smooth(random, labels.shape, 2.0), 0)
    blurred = ndimage.gaussian_filter(field, random.uniform(0.4, 0.8))
    noisy = blurred + random.uniform(8, 20) * random.normal(size=labels.shape)
    return np.clip(np.rint(noisy), -1024, 2000).astype(np.int16)


def _smooth(random: np.random.Generator, shape: tuple[int, ...], width: float) -> NDArray[np.float64]:
    """Smooth noise of unit variance."""
    noise = ndimage.gaussian_filter(random.normal(size=shape), width)
    return np.asarray(noise / noise.std())
