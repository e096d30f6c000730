"""The content-addressed cache of embeddings: what is there is never encoded again, what is not whole is not there."""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import blosc2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from moe_pipeline.datasets.dataset import Case
from moe_pipeline.embeddings.crops import JITTER, Crop, CropRecipe, classes_in, cut_crops
from moe_pipeline.errors import DatasetError
from moe_pipeline.files import sha256_file, sha256_json
from moe_pipeline.imaging.io.files import read_label_map, read_volume
from moe_pipeline.model.foundation import Foundation
from moe_pipeline.progress import Progress, silent, track
from moe_pipeline.records.embeddings import CacheEntry, CacheManifest
from moe_pipeline.records.foundation import in_short
from moe_pipeline.weights.tensors import open_tensors, save_tensors

_ENCODER_BATCH = 4
_FORMAT = 2  # of the files: 2 packs the labels of each crop on their own


@dataclass(frozen=True, slots=True)
class CacheRequest:
    """What a cache is to hold."""

    dataset: str
    """Dataset name."""
    cases: tuple[Case, ...]
    """Cases with labels."""
    recipe: CropRecipe
    """Crops per case and copy."""
    copies: dict[str, int]
    """Copies per case id: 1 is the case as it is, more are augmented."""
    channel: int
    """Image channel."""
    foundation: str
    """Name of the foundation."""
    foundation_sha256: str
    """Its weights."""
    plan_sha256: str
    """The plan all this follows."""
    seed: int
    """Of placement and augmentation."""
    encoded: bool = True
    """Whether to hold embeddings; else the images as the encoder would see them."""

    @property
    def encoder(self) -> str:
        """What turns images into what is held."""
        return self.foundation_sha256 if self.encoded else "none"


@dataclass(frozen=True, slots=True)
class Sample:
    """One cached crop.

    Attributes:
        embedding: (C, *grid) float16; of a cache that is not encoded the image, (1, *crop).
        labels: (*crop) label values of the dataset.
        classes: promptable classes present.
    """

    embedding: Tensor
    labels: NDArray[np.integer]
    classes: tuple[int, ...]


class EmbeddingCache:
    """Read access to a complete cache; samples are numbered through all files."""

    def __init__(self, folder: Path, manifest: CacheManifest) -> None:
        self.folder = folder
        self.manifest = manifest
        self._places = [
            (entry, crop) for entry in manifest.entries for crop in range(len(entry.classes)) if entry.classes[crop]
        ]

    @classmethod
    def open(cls, folder: Path) -> "EmbeddingCache":
        """Open by manifest.json.

        Raises:
            RecordError: if there is no manifest, so no complete cache.
        """
        return cls(folder, CacheManifest.load(folder / "manifest.json"))

    def __len__(self) -> int:
        return len(self._places)

    def of_cases(self, cases: Sequence[str], *, augmented: bool) -> list[int]:
        """Numbers of the samples of some cases, with or without the augmented copies."""
        wanted = set(cases)
        return [
            number
            for number, (entry, _) in enumerate(self._places)
            if entry.case in wanted and (augmented or entry.copy_index == 0)
        ]

    def classes_of(self, number: int) -> tuple[int, ...]:
        """Promptable classes in a sample, without reading it."""
        entry, crop = self._places[number]
        return entry.classes[crop]

    def case_of(self, number: int) -> str:
        """Case that a sample was cut from."""
        return self._places[number][0].case

    def load(self, number: int) -> Sample:
        """Read one sample, and nothing of the others in its file.

        Raises:
            CheckpointError: if the file is missing or damaged.
        """
        entry, crop = self._places[number]
        with open_tensors(_entry_path(self.folder, entry.key)) as stream:
            embedding = stream.get_slice("embedding")[crop].clone()  # (C, *grid), not a view of the file
            labels = _unpacked(stream.get_tensor(_labels_name(crop)))
        return Sample(embedding, labels, entry.classes[crop])


def build_cache(
    request: CacheRequest,
    foundation: Foundation,
    folder: Path,
    device: torch.device,
    progress: Progress = silent,
) -> EmbeddingCache:
    """Encode what is missing, then write the manifest.

    Reading and cutting the next case runs beside encoding the present one. A killed run continues where it was.

    Args:
        request: what to hold.
        foundation: whose image encoder to use, on `device`.
        folder: of this dataset and view.
        device: where to encode.
        progress: told after each case.

    Raises:
        DatasetError: if no case has a promptable class.
    """
    began = time.monotonic()
    folder.mkdir(parents=True, exist_ok=True)
    entries: list[CacheEntry] = []
    with ThreadPoolExecutor(max_workers=1) as reader:
        prepared = _ahead(reader, request, folder)
        for case_entries, crops in track(prepared, f"encoding {request.dataset}", progress, len(request.cases)):
            for entry, cut in zip(case_entries, crops, strict=True):
                if cut:
                    _encode_entry(entry, cut, foundation.encode if request.encoded else None, folder, device)
            entries += case_entries
    entries = [entry for entry in entries if entry.classes]
    if not entries:
        raise DatasetError(
            f"{request.dataset}: no case has a voxel of the classes {sorted(request.recipe.class_weights)}"
        )
    manifest = CacheManifest(
        dataset=request.dataset,
        foundation=request.foundation,
        foundation_sha256=request.foundation_sha256,
        plan_sha256=request.plan_sha256,
        view=request.recipe.view,
        seed=request.seed,
        entries=tuple(entries),
        seconds=round(time.monotonic() - began, 2),
    )
    manifest.save(folder / "manifest.json")
    return EmbeddingCache(folder, manifest)


def encode_case(
    case: Case, request: CacheRequest, foundation: Foundation, folder: Path, device: torch.device
) -> list[str]:
    """Encode what is missing of one case, and write no manifest: for a worker; `build_cache` finds it then.

    Returns:
        Files of the case, relative to the folder. Their names are hashes of what they hold, so that two workers that
        encode one case write the same files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    entries, crops = _prepare_case(case, request, folder)
    for entry, cut in zip(entries, crops, strict=True):
        if cut:
            _encode_entry(entry, cut, foundation.encode if request.encoded else None, folder, device)
    return [_entry_path(folder, entry.key).relative_to(folder).as_posix() for entry in entries if entry.classes]


def _ahead(
    reader: ThreadPoolExecutor, request: CacheRequest, folder: Path
) -> Iterator[tuple[list[CacheEntry], list[list[Crop]]]]:
    pending = None
    for case in request.cases:
        following = reader.submit(_prepare_case, case, request, folder)
        if pending is not None:
            yield pending.result()
        pending = following
    if pending is not None:
        yield pending.result()


def _prepare_case(case: Case, request: CacheRequest, folder: Path) -> tuple[list[CacheEntry], list[list[Crop]]]:
    """Entries of one case and the crops of those that are not cached; an empty list of crops means cached."""
    image_path, label_path = case.images[request.channel], case.label
    assert label_path is not None, case.case_id
    content = {
        "image": sha256_file(image_path),
        "label": sha256_file(label_path),
        "view": request.recipe.view.model_dump(),
        "voxels": in_short(request.recipe.low_res_voxels),
        "crops": request.recipe.crops,
        "weights": {str(c): w for c, w in sorted(request.recipe.class_weights.items())},
        "encoder": request.encoder,
    }
    volumes = None
    entries, crops = [], []
    for copy_index in range(request.copies[case.case_id]):
        mirror = request.recipe.mirror_axes if copy_index else ()
        drawn_from = sha256_json({**content, "mirror": mirror, "copy": copy_index, "seed": request.seed})
        key = sha256_json({"drawn_from": drawn_from, **_recipe(request.recipe, copy_index)})[:32]
        path = _entry_path(folder, key)
        cut: list[Crop] = []
        if path.is_file():
            classes = _cached_classes(path, set(request.recipe.class_weights))
        else:
            volumes = volumes or (read_volume(image_path), read_label_map(label_path))
            cut = cut_crops(*volumes, request.recipe, copy_index, int(drawn_from[:15], 16))
            classes = tuple(crop.classes(set(request.recipe.class_weights)) for crop in cut)
        entries.append(CacheEntry(key=key, case=case.case_id, copy_index=copy_index, classes=classes))
        crops.append(cut)
    return entries, crops


def _recipe(recipe: CropRecipe, copy_index: int) -> dict[str, Any]:
    """What crops depend on that decides nothing about where they lie: another recipe shows the same places."""
    return {"format": _FORMAT, "jitter": JITTER, "augmentation": recipe.augmentation.recipe() if copy_index else None}


def _cached_classes(path: Path, promptable: set[int]) -> tuple[tuple[int, ...], ...]:
    """Of each crop of a file; the embeddings are not read."""
    with open_tensors(path) as stream:
        n_crops = stream.get_slice("embedding").get_shape()[0]
        return tuple(
            classes_in(_unpacked(stream.get_tensor(_labels_name(crop))), promptable) for crop in range(n_crops)
        )


def _packed(labels: NDArray[np.integer]) -> Tensor:
    """The labels of one crop, compressed, as bytes."""
    return torch.frombuffer(bytearray(blosc2.pack_array2(np.ascontiguousarray(labels))), dtype=torch.uint8)


def _unpacked(packed: Tensor) -> NDArray[np.integer]:
    """The labels of one crop, (*crop)."""
    labels: NDArray[np.integer] = blosc2.unpack_array2(packed.numpy().tobytes())
    return labels


def _labels_name(crop: int) -> str:
    return f"labels.{crop}"


@torch.no_grad()
def _encode_entry(
    entry: CacheEntry, crops: list[Crop], encoder: Callable[[Tensor], Tensor] | None, folder: Path, device: torch.device
) -> None:
    """Encode the crops of one file together: what else is missing must not change the rounding of a resumed run."""
    images = torch.from_numpy(np.stack([crop.image for crop in crops]))[:, None].to(device)  # (n, 1, *crop)
    parts = torch.split(images, _ENCODER_BATCH)
    embedding = torch.cat([encoder(part) for part in parts]) if encoder else images
    tensors = {"embedding": embedding.to("cpu", torch.float16)}  # (n, C, *grid)
    tensors |= {_labels_name(number): _packed(crop.labels) for number, crop in enumerate(crops)}
    save_tensors(_entry_path(folder, entry.key), tensors, {"case": entry.case})


def _entry_path(folder: Path, key: str) -> Path:
    return folder / "crops" / f"{key}.safetensors"
