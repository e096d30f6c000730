"""What a search over a whole scan will meet, for training: classes off centre, cut off, or not there at all."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import blosc2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from moe_pipeline.datasets.dataset import Case
from moe_pipeline.embeddings.augmentation import PLAIN, AugmentationSettings
from moe_pipeline.embeddings.crops import Crop, cut_crop
from moe_pipeline.errors import CheckpointError
from moe_pipeline.files import sha256_file, sha256_json
from moe_pipeline.imaging.crop_grid import CropGrid
from moe_pipeline.imaging.cropping import crop_volume
from moe_pipeline.imaging.geometry import Box
from moe_pipeline.imaging.io.files import read_label_map, read_volume
from moe_pipeline.imaging.volume import Volume
from moe_pipeline.model.foundation import Foundation
from moe_pipeline.progress import Progress, silent, track
from moe_pipeline.records.foundation import Sides, View, in_short
from moe_pipeline.synthetic import GENERATOR_VERSION
from moe_pipeline.synthetic.views import in_view, make_crop
from moe_pipeline.weights.tensors import load_tensors, save_tensors

_OFF_CENTRE = 0.4  # of the crop's edges: a window of the search shows an object anywhere
_THINNEST = 0.25  # of the crop's edge: what must be left of a scan that is cut
_SYNTHETIC_SEED = 2_000_000_033  # far from the seeds of pretraining and of the gate
_ENCODER_BATCH = 4


@dataclass(frozen=True, slots=True)
class SearchRecipe:
    """Which crops are cut, and how they are seen."""

    view: View
    """What the encoder sees."""
    low_res_voxels: Sides
    """Of the decoder, along the edges of the crop: crops lie on them."""
    classes: tuple[int, ...]
    """Classes that the click proposer looks for."""
    crops: int
    """Per case."""
    mirror_axes: tuple[int, ...]
    """Axes that every second crop may be mirrored along."""
    channel: int
    """Image channel."""
    seed: int
    """Of the places."""
    augmentation: AugmentationSettings = PLAIN
    """How much the crops that are augmented may differ."""


@dataclass(frozen=True, slots=True)
class EncodedLabels:
    """Some crops.

    Attributes:
        embedding: (n, C, *grid) float16.
        labels: (n, *crop) label values.
    """

    embedding: Tensor
    labels: NDArray[np.integer]


def cut_search_crops(image: Volume, labels: Volume, recipe: SearchRecipe, seed: int) -> list[Crop]:
    """Crops as windows of a search, in turn: a class off centre, any place, and a scan that ends before a class.

    Where the whole image fits into the crop there is only one place, so all are of the third kind.

    Args:
        image: one channel.
        labels: on the same grid.
        recipe: how many, how seen.
        seed: of this case.
    """
    random = np.random.default_rng(seed)
    crop_grid = CropGrid(image.geometry, recipe.view, recipe.low_res_voxels)
    fits = bool((np.array(crop_grid.voxels.shape) <= recipe.view.size_voxels).all())
    crops = []
    for number in range(recipe.crops):
        kind = 2 if fits else number % 3
        part = (
            _ended_before(image, labels, recipe.classes, crop_grid.extent_mm, random) if kind == 2 else (image, labels)
        )
        grid = CropGrid(part[0].geometry, recipe.view, recipe.low_res_voxels)
        centre = _centre(part[1], recipe.classes, grid.extent_mm, random, anywhere=kind == 1)
        crop = cut_crop(*part, grid, centre)
        if number // 3 % 2:
            seed_of_copy = int(random.integers(2**32))
            crop = crop.augmented(seed_of_copy, grid.voxels.spacing_mm, recipe.mirror_axes, recipe.augmentation)
        crops.append(crop)
    return crops


def _centre(
    labels: Volume,
    classes: tuple[int, ...],
    extent_mm: NDArray[np.float64],
    random: np.random.Generator,
    *,
    anywhere: bool,
) -> NDArray[np.float64]:
    present = [c for c in classes if (labels.array == c).any()]
    shift = random.uniform(-_OFF_CENTRE, _OFF_CENTRE, 3) * extent_mm
    if anywhere or not present:
        voxel = random.uniform(0, np.asarray(labels.geometry.shape) - 1)
        return labels.geometry.voxel_to_world(voxel)
    voxels = np.flatnonzero(labels.array == present[random.integers(len(present))])
    voxel = np.array(np.unravel_index(random.choice(voxels), labels.array.shape), dtype=float)
    return labels.geometry.voxel_to_world(voxel) + shift


def _ended_before(
    image: Volume,
    labels: Volume,
    classes: tuple[int, ...],
    extent_mm: NDArray[np.float64],
    random: np.random.Generator,
) -> tuple[Volume, Volume]:
    """The scan on one side of a class, as if it had ended there; the whole scan if no side is thick enough."""
    present = [c for c in classes if (labels.array == c).any()]
    if not present:
        return image, labels
    where = np.nonzero(labels.array == present[random.integers(len(present))])
    sides = []
    for axis, (side, spacing_mm) in enumerate(zip(image.array.shape, image.geometry.spacing_mm, strict=True)):
        for start, stop in ((0, int(where[axis].min())), (int(where[axis].max()) + 1, side)):
            if (stop - start) * spacing_mm >= _THINNEST * extent_mm[axis] and stop - start > 1:
                sides.append((axis, start, stop))
    if not sides:
        return image, labels
    axis, start, stop = sides[random.integers(len(sides))]
    limits = [(start, stop) if a == axis else (0, n) for a, n in enumerate(image.array.shape)]
    box: Box = (limits[0], limits[1], limits[2])
    return crop_volume(image, box, outside=0.0), crop_volume(labels, box, outside=0)


def encode_search_crops(
    cases: Sequence[Case],
    recipe: SearchRecipe,
    foundation: Foundation,
    foundation_sha256: str,
    folder: Path,
    device: torch.device,
    progress: Progress = silent,
) -> Iterator[EncodedLabels]:
    """The search crops of some cases, case by case; kept on disk by content, so that a second run encodes nothing.

    Args:
        cases: with labels.
        recipe: how many, how seen.
        foundation: whose image encoder to use, on `device`.
        foundation_sha256: its weights.
        folder: where to keep them.
        device: where to encode.
        progress: told after each case.
    """
    for case in track(cases, "search crops", progress):
        image_path, label_path = case.images[recipe.channel], case.label
        assert label_path is not None, case.case_id
        fields = {
            "image": sha256_file(image_path),
            "label": sha256_file(label_path),
            "view": recipe.view.model_dump(),
            "recipe": [in_short(recipe.low_res_voxels), recipe.classes, recipe.crops, recipe.mirror_axes, recipe.seed],
            "encoder": foundation_sha256,
        }
        drawn_from = sha256_json(fields)
        path = folder / f"{_key(drawn_from, recipe)}.safetensors"
        if (kept := _kept(path)) is None:
            volumes = read_volume(image_path), read_label_map(label_path)
            crops = cut_search_crops(*volumes, recipe, int(drawn_from[:15], 16))
            images = np.stack([crop.image for crop in crops])
            labels = np.stack([crop.labels for crop in crops])
            kept = _keep(path, EncodedLabels(_encode(images, foundation, device), labels))
        yield kept


def _key(drawn_from: str, recipe: SearchRecipe) -> str:
    """Of a file: with what the crops depend on that decides nothing about where they lie."""
    fields = {
        "drawn_from": drawn_from,
        "placement": [_OFF_CENTRE, _THINNEST],
        "augmentation": recipe.augmentation.recipe(),
    }
    return sha256_json(fields)[:32]


def encode_synthetic(
    count: int,
    view: View,
    foundation: Foundation,
    foundation_sha256: str,
    folder: Path,
    device: torch.device,
    progress: Progress = silent,
) -> Tensor:
    """Embeddings of synthetic volumes, on which no class is to be found; (count, C, *grid) float16, kept on disk.

    Args:
        count: how many.
        view: whose size and intensity rule to use.
        foundation: whose image encoder to use, on `device`.
        foundation_sha256: its weights.
        folder: where to keep them.
        device: where to encode.
        progress: told after each volume.
    """
    fields = {
        "synthetic": count,
        "generator": GENERATOR_VERSION,
        "seed": _SYNTHETIC_SEED,
        "view": view.model_dump(),
        "encoder": foundation_sha256,
    }
    path = folder / f"{sha256_json(fields)[:32]}.safetensors"
    if (kept := _kept(path)) is None:
        parts = []
        for number in track(range(count), "synthetic crops", progress):
            image = make_crop(_SYNTHETIC_SEED, view, first=number).image[0, 0].numpy()
            parts.append(_encode(in_view(image, view)[None], foundation, device))
        kept = _keep(path, EncodedLabels(torch.cat(parts), np.zeros((count, 1, 1, 1), np.uint8)))
    return kept.embedding


@torch.no_grad()
def _encode(images: NDArray[np.float32], foundation: Foundation, device: torch.device) -> Tensor:
    batch = torch.from_numpy(images)[:, None].to(device)  # (n, 1, *crop)
    width = foundation.embedding_width  # no click proposer looks at what is behind it
    parts = [foundation.encode(part)[:, :width] for part in torch.split(batch, _ENCODER_BATCH)]
    return torch.cat(parts).to("cpu", torch.float16)  # (n, C, *grid)


def _keep(path: Path, crops: EncodedLabels) -> EncodedLabels:
    packed = torch.frombuffer(bytearray(blosc2.pack_array2(crops.labels)), dtype=torch.uint8)
    save_tensors(path, {"embedding": crops.embedding, "labels": packed})
    return crops


def _kept(path: Path) -> EncodedLabels | None:
    if not path.is_file():
        return None
    try:
        tensors = load_tensors(path)
        return EncodedLabels(tensors["embedding"], blosc2.unpack_array2(tensors["labels"].numpy().tobytes()))
    except (CheckpointError, KeyError):
        path.unlink()  # damaged: make it again
        return None
