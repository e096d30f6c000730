"""What an expert rehearses: prompts on synthetic scans, so that it harms little where it is asked by mistake.

Finetuning forgets what is not seen again; some of what the foundation learnt from, beside the new task, keeps it
(experience replay, Rolnick et al. 2019). There an expert imitates the general decoder (distillation, Hinton et al.
2015). One that is still a fair general expert costs little wherever it answers a prompt that was not meant for it, so
the gate may let it answer more of its own.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from moe_pipeline.errors import CheckpointError
from moe_pipeline.files import sha256_json
from moe_pipeline.model.foundation import Foundation
from moe_pipeline.progress import Progress, silent, track
from moe_pipeline.records.foundation import View
from moe_pipeline.synthetic import GENERATOR_VERSION
from moe_pipeline.training.interactive.synthetic_scans import REHEARSAL, synthetic_scan
from moe_pipeline.weights.tensors import open_tensors, save_tensors

_CHUNK = 16
"""Prompts in a file."""


@dataclass(frozen=True, slots=True)
class RehearsedPrompts:
    """Prompts on synthetic scans as an expert sees them, kept on disk.

    Attributes:
        files: with `_CHUNK` prompts each.
        key: of foundation, views and generator: what it is the same for has the same prompts.
    """

    files: tuple[Path, ...]
    key: str

    def __len__(self) -> int:
        return _CHUNK * len(self.files)

    def load(self, number: int) -> tuple[Tensor, Tensor]:
        """One prompt: its embedding (C, *grid) float16, and its target (*crop) bool.

        Raises:
            CheckpointError: if the file is missing or damaged.
        """
        file, row = divmod(number, _CHUNK)
        with open_tensors(self.files[file]) as stream:
            embedding = stream.get_slice("embedding")[row].clone()
            packed, sides = stream.get_slice("target")[row], stream.get_tensor("sides").tolist()
        target = np.unpackbits(packed.numpy(), count=int(np.prod(sides))).reshape(sides)
        return embedding, torch.from_numpy(target).bool()


def rehearsed_prompts(
    count: int,
    view: View,
    scanned_in: View,
    foundation: Foundation,
    foundation_sha256: str,
    folder: Path,
    progress: Progress = silent,
) -> RehearsedPrompts:
    """Make what is missing of the prompts that experts of one view rehearse.

    Args:
        count: of prompts, at least; whole files are made.
        view: of the experts.
        scanned_in: the foundation's view, around whose spacing the scans have theirs.
        foundation: encodes them.
        foundation_sha256: its weights.
        folder: where they are kept, for all datasets.
        progress: told after each prompt.
    """
    made_of = {"foundation": foundation_sha256, "view": view.model_dump(), "scanned_in": scanned_in.model_dump()}
    key = sha256_json({**made_of, "seed": REHEARSAL, "generator": GENERATOR_VERSION})[:32]
    files = [folder / f"{key}_{first}.safetensors" for first in range(0, count, _CHUNK)]
    missing = [number for number, file in enumerate(files) if not _is_whole(file)]
    prompts = track(range(len(missing) * _CHUNK), "rehearsal", progress)
    rows: list[tuple[Tensor, Tensor]] = []
    for place in prompts:
        file, row = divmod(place, _CHUNK)
        rows.append(_prompt(missing[file] * _CHUNK + row, view, scanned_in, foundation))
        if row == _CHUNK - 1:
            _save(files[missing[file]], rows, view)
            rows = []
    return RehearsedPrompts(tuple(files), key)


def _prompt(number: int, view: View, scanned_in: View, foundation: Foundation) -> tuple[Tensor, Tensor]:
    """Embedding and target; an object that falls between the voxels of the view keeps the one that is clicked."""
    device = next(foundation.parameters()).device
    case, click = synthetic_scan(REHEARSAL, number, scanned_in, foundation, device)
    window, (target, _) = case.window(view, click), case.target(view, click)
    if not target.any():
        target[tuple(window.click.round().long())] = True
    return window.embedding[0].to("cpu", torch.float16), target


def _save(file: Path, rows: list[tuple[Tensor, Tensor]], view: View) -> None:
    embeddings, targets = zip(*rows, strict=True)
    packed = np.packbits(torch.stack(targets).flatten(1).numpy(), axis=1)
    sides = torch.tensor(view.size_voxels)
    tensors = {"embedding": torch.stack(embeddings), "target": torch.from_numpy(packed), "sides": sides}
    save_tensors(file, tensors)


def _is_whole(file: Path) -> bool:
    if not file.is_file():
        return False
    try:
        with open_tensors(file) as stream:
            return bool(stream.get_slice("embedding").get_shape()[0] == _CHUNK)
    except CheckpointError:
        file.unlink()  # damaged: make it again
        return False
