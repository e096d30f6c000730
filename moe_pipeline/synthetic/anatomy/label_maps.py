"""Label maps in memory: read once, cut to what they show, every tenth held out for validation."""

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from moe_pipeline.errors import PipelineError
from moe_pipeline.files import sha256_json
from moe_pipeline.imaging.io.files import list_label_maps, read_label_map
from moe_pipeline.imaging.volume import Volume
from moe_pipeline.synthetic import labels
from moe_pipeline.synthetic.anatomy.source import LabelMapSource, LesionHost

SOURCE_FILE = "label_maps.json"
_HELD_OUT_EVERY = 10
_PLACES = 300  # voxels of each structure that are remembered, to look there
_MARGIN = 8  # voxels around what a map shows


@dataclass(frozen=True, slots=True, eq=False)
class StructureMap:
    """One patient, R, A and S along the axes."""

    name: str
    """Folder and file."""
    source: LabelMapSource
    """What is known of its structures."""
    voxels: Tensor
    """(X, Y, Z) uint8: structures from 1 on, in the order of their numbers; 0 for none."""
    numbers: tuple[int, ...]
    """Number of each structure in the file."""
    spacing_mm: tuple[float, float, float]
    """Along R, A, S."""
    places: tuple[NDArray[np.int16], ...]
    """For each structure some of its voxels, (n, 3)."""
    solidity: tuple[float, ...]
    """For each structure the share of voxels that have no other around them: low for sheets and folds."""

    def structures(self, tissue: str) -> list[int]:
        """The structures of a tissue that this map has, from 1 on."""
        members = self.source.tissues[tissue]
        return [place for place, number in enumerate(self.numbers, start=1) if number in members]


@dataclass(frozen=True, slots=True, eq=False)
class Lesion:
    """One lesion, in shares of the box that its host fills."""

    host: LesionHost
    """Where it may lie."""
    mask: Tensor
    """(X, Y, Z) bool, cut to the lesion."""
    low: tuple[float, float, float]
    """Its first voxel, the host's box reaching from 0 to 1."""
    step: tuple[float, float, float]
    """From voxel to voxel."""


@dataclass(frozen=True, slots=True)
class Atlas:
    """What is painted on."""

    sources: tuple[tuple[StructureMap, ...], ...]
    """Label maps, folder by folder; none is empty."""
    lesions: tuple[Lesion, ...]
    """For whichever maps have their host's tissues."""

    def lesions_for(self, label_map: StructureMap) -> tuple[Lesion, ...]:
        """Those whose host this map has."""
        return tuple(lesion for lesion in self.lesions if set(lesion.host.tissues) <= set(label_map.source.tissues))


def find_sources(folder: Path) -> dict[Path, LabelMapSource]:
    """The folder itself or those in it that have a `label_maps.json`, with what that says.

    Raises:
        PipelineError: if there is none.
        RecordError: if one cannot be read.
    """
    found = sorted({*folder.glob(SOURCE_FILE), *folder.glob(f"*/{SOURCE_FILE}")})
    if not found:
        raise PipelineError(
            f"{folder}: no {SOURCE_FILE} in it or in its folders; expected one beside the label maps of each source, "
            "which names their licence and tissues. See docs/foundations.md"
        )
    return {path.parent: LabelMapSource.load(path) for path in found}


def fingerprint(folder: Path) -> str:
    """Hash of all that is said of the label maps, and of the names and sizes of their files."""
    found = {
        path.name: [source.sha256(), [(name, file.stat().st_size) for name, file in list_label_maps(path)]]
        for path, source in find_sources(folder).items()
    }
    return sha256_json(found)


def read_atlas(folder: Path, *, held_out: bool) -> Atlas:
    """Read label maps and lesions of all sources in a folder.

    Args:
        folder: as in `find_sources`.
        held_out: every tenth file of each source, or all others.

    Raises:
        PipelineError: if there is no label map with structures, or one has too many.
        ImageError: if one cannot be read.
    """
    sources, lesions = [], []
    for path, source in find_sources(folder).items():
        files = [(f"{path.name}/{name}", file) for name, file in _part(list_label_maps(path), held_out)]
        if source.lesions_in is not None:
            lesions += [_lesion(read_label_map(file), source.lesions_in, file) for _, file in files]
        elif files:
            sources.append(tuple(_label_map(name, source, read_label_map(file)) for name, file in files))
    if not sources and not held_out:
        raise PipelineError(f"{folder}: lesions alone cannot be painted; expected label maps of what they lie in, too")
    return Atlas(tuple(sources), tuple(lesions))


def _part(files: list[tuple[str, Path]], held_out: bool) -> list[tuple[str, Path]]:
    return [file for at, file in enumerate(files, start=1) if (at % _HELD_OUT_EVERY == 0) == held_out]


def _label_map(name: str, source: LabelMapSource, volume: Volume) -> StructureMap:
    array, _ = _cut(volume.array, _MARGIN)
    numbers = [int(number) for number in np.unique(array) if number]
    if not 1 <= len(numbers) <= len(labels.STRUCTURES):
        raise PipelineError(f"{name}: {len(numbers)} structures; expected 1 to {len(labels.STRUCTURES)}")
    table = np.zeros(max(numbers) + 1, dtype=np.uint8)
    table[numbers] = np.arange(1, len(numbers) + 1)
    voxels = table[array]
    places = _places(voxels, len(numbers))
    return StructureMap(
        name=name,
        source=source,
        voxels=torch.from_numpy(voxels),
        numbers=tuple(numbers),
        spacing_mm=volume.geometry.spacing_mm,
        places=places,
        solidity=tuple(_solidity(voxels, some) for some in places),
    )


def _places(voxels: NDArray[np.uint8], count: int) -> tuple[NDArray[np.int16], ...]:
    """Evenly spread in the order of memory."""
    flat = voxels.reshape(-1)
    order = np.argsort(flat, kind="stable")
    ends = np.searchsorted(flat[order], np.arange(1, count + 2))
    chosen = [np.linspace(a, b - 1, min(b - a, _PLACES)).astype(int) for a, b in pairwise(ends)]
    return tuple(np.stack(np.unravel_index(order[some], voxels.shape), 1).astype(np.int16) for some in chosen)


def _solidity(voxels: NDArray[np.uint8], places: NDArray[np.int16]) -> float:
    around = np.concatenate([np.eye(3, dtype=np.int16), -np.eye(3, dtype=np.int16)])  # (6, 3)
    neighbours = (places[:, None] + around).clip(0, np.array(voxels.shape) - 1)  # (n, 6, 3)
    alike = voxels[tuple(places.T)][:, None] == voxels[tuple(neighbours.T)].T  # (n, 6)
    return float(alike.all(1).mean())


def _lesion(volume: Volume, host: LesionHost, path: Path) -> Lesion:
    if not volume.array.any():
        raise PipelineError(f"{path}: no lesion in it; remove the file")
    mask, first = _cut(volume.array, 0)
    low, high = np.array(host.box_mm)
    spacing = np.array(volume.geometry.spacing_mm)
    place = (volume.geometry.affine @ [*first, 1])[:3]
    (x, y, z), (dx, dy, dz) = ((place - low) / (high - low)).tolist(), (spacing / (high - low)).tolist()
    return Lesion(host, torch.from_numpy(mask > 0), (x, y, z), (dx, dy, dz))


def _cut(array: NDArray[np.uint8 | np.uint16], margin: int) -> tuple[NDArray[np.uint8 | np.uint16], list[int]]:
    """The part around all that is not 0, contiguous, and its first voxel."""
    box, first = [], []
    for axis in range(3):
        others = tuple(other for other in range(3) if other != axis)
        filled = np.flatnonzero(array.any(axis=others))
        low, high = (int(filled[0]), int(filled[-1])) if len(filled) else (0, 0)
        low = max(0, low - margin)
        box.append(slice(low, high + 1 + margin))
        first.append(low)
    return np.ascontiguousarray(array[tuple(box)]), first
