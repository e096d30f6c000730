"""Small made-up datasets with different looks, for the demonstration."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from moe_pipeline.imaging.geometry import Geometry
from moe_pipeline.imaging.io.files import write_image, write_label_map
from moe_pipeline.imaging.volume import Volume
from moe_pipeline.paths import RawFolder

Array = NDArray[np.float32]
Painter = Callable[[np.random.Generator, Array], tuple[Array, NDArray[np.uint8]]]

_SHAPE = (52, 60, 44)
_SPACING_MM = (1.5, 1.4, 2.0)


def write_phantoms(folder: Path, painter: Painter, names: dict[int, str], cases: int, seed: int) -> None:
    """Write a dataset in the Medical Segmentation Decathlon's layout.

    Args:
        folder: to create, named like Task901_Name.
        painter: draws one case from random numbers and the voxel positions in mm, (3, x, y, z).
        names: label value to class name.
        cases: how many.
        seed: same seed, same files.
    """
    pairs = []
    for number in range(cases):
        random = np.random.default_rng((seed, number))
        geometry = _grid(random)
        image, labels = painter(random, _positions_mm())
        case = f"case_{number:02d}.nii.gz"
        write_image(Volume(image, geometry), folder / "imagesTr" / case, geometry)
        write_label_map(Volume(labels, geometry), folder / "labelsTr" / case, geometry)
        pairs.append({"image": f"./imagesTr/{case}", "label": f"./labelsTr/{case}"})
    description = {
        "name": folder.name,
        "modality": {"0": "synthetic"},
        "labels": {"0": "background", **{str(value): name for value, name in names.items()}},
        "numTraining": cases,
        "training": pairs,
        "test": [],
    }
    RawFolder(folder).description.write_text(json.dumps(description, indent=1), encoding="utf-8")


def paint_capsule(random: np.random.Generator, mm: Array) -> tuple[Array, NDArray[np.uint8]]:
    """MR-like: a bright capsule with no visible border between its front (1) and back (2) part."""
    organ = _blob(random, mm, centre_jitter_mm=8, radii_mm=(11, 19, 12))
    cut = mm[1] - float((mm[1] * organ).sum() / organ.sum())
    labels = np.where(organ, np.where(cut > 0, 1, 2), 0).astype(np.uint8)
    image = 0.35 + 0.4 * organ + 0.25 * _blob(random, mm, 25, (8, 8, 8))
    image = image * (1 + 0.3 * _smooth(random, 18)) + 0.06 * random.standard_normal(_SHAPE)
    return _blurred(300 * image), labels


def paint_fruit(random: np.random.Generator, mm: Array) -> tuple[Array, NDArray[np.uint8]]:
    """CT-like: a fruit with a skin (1) and a core (2), among other things of the same density."""
    radius = random.uniform(12, 17)
    centre = random.uniform(-8, 8, 3)
    distance = np.sqrt(((mm - centre[:, None, None, None]) ** 2).sum(0)) + 3 * _smooth(random, 12)
    fruit, core = distance < radius, distance < radius - 5
    labels = np.where(core, 2, np.where(fruit, 1, 0)).astype(np.uint8)
    image = -60.0 + 130 * _blob(random, mm, 25, (9, 9, 9)) * ~fruit
    image = np.where(fruit, 70.0, image)
    image = np.where(core, 25.0, image) + 15 * random.standard_normal(_SHAPE)
    return _blurred(image), labels


def paint_pebbles(random: np.random.Generator, mm: Array) -> tuple[Array, NDArray[np.uint8]]:
    """Neither: a bright (1) and a dark (2) pebble in coarse texture."""
    image = 100 + 30 * _smooth(random, 4)
    labels = np.zeros(_SHAPE, np.uint8)
    for value, (level, side) in enumerate(((190, -1), (20, 1)), start=1):
        pebble = _blob(random, mm - np.array([side * 18, 0, 0])[:, None, None, None], 6, (9, 11, 10))
        image, labels[pebble] = np.where(pebble, level, image), value
    return _blurred(image + 10 * random.standard_normal(_SHAPE)), labels


def _grid(random: np.random.Generator) -> Geometry:
    origin = tuple(float(value) for value in random.uniform(-60, 60, 3).round(2))
    return Geometry(
        _SHAPE, _SPACING_MM, (origin[0], origin[1], origin[2]), (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
    )


def _positions_mm() -> Array:
    axes = [(np.arange(n) - (n - 1) / 2) * step for n, step in zip(_SHAPE, _SPACING_MM, strict=True)]
    return np.stack(np.meshgrid(*axes, indexing="ij")).astype(np.float32)  # (3, x, y, z)


def _smooth(random: np.random.Generator, sigma: float) -> Array:
    """A random field of zero mean and unit variance."""
    field = gaussian_filter(random.standard_normal(_SHAPE), sigma)
    standard: Array = ((field - field.mean()) / field.std()).astype(np.float32)
    return standard


def _blob(
    random: np.random.Generator, mm: Array, centre_jitter_mm: float, radii_mm: tuple[float, float, float]
) -> NDArray[np.bool_]:
    centre = random.uniform(-centre_jitter_mm, centre_jitter_mm, 3)[:, None, None, None]
    radii = np.array(radii_mm)[:, None, None, None] * random.uniform(0.8, 1.2, (3, 1, 1, 1))
    distance = np.sqrt((((mm - centre) / radii) ** 2).sum(0))
    mask: NDArray[np.bool_] = distance + 0.12 * _smooth(random, 6) < 1
    return mask


def _blurred(image: NDArray[np.floating]) -> Array:
    blurred: Array = gaussian_filter(image, 0.6).astype(np.float32)
    return blurred
