"""Synthetic volumes as scans of unknown anatomy: what a gate's risk is measured on, since their truth is known."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from moe_pipeline.errors import CheckpointError
from moe_pipeline.files import sha256_json
from moe_pipeline.imaging.geometry import Geometry
from moe_pipeline.imaging.volume import Volume
from moe_pipeline.mixture.gate_features import prompt_features
from moe_pipeline.model.foundation import Foundation
from moe_pipeline.progress import Progress, silent, track
from moe_pipeline.records.foundation import View
from moe_pipeline.synthetic.views import make_crop
from moe_pipeline.training.claims.case_windows import CaseWindows, Click, clicks_in
from moe_pipeline.weights.store import builtin_file
from moe_pipeline.weights.tensors import load_metadata, load_tensors, save_tensors

CALIBRATION, TRAINING = 2_000_000_033, 2_000_000_063
"""Seeds of two endless sets, far from those of pretraining."""

SHIPPED = "nano_scans.safetensors"
"""Features of the first scans that come with the package, of the built-in foundation in its view, in 16 bits."""

_NARROWEST, _WIDEST = 1 / 3, 2.0  # spacing over that of the foundation's view
_CHUNK = 50


def synthetic_scan(
    seed: int, number: int, view: View, foundation: Foundation, device: torch.device
) -> tuple[CaseWindows, Click]:
    """A scan with one object and a first click on it; the same for the same seed and number.

    The generator's volumes have no size of their own. They get one, so that in a view some are small scans with nothing
    around them and others reach beyond the window.

    Args:
        seed: which set.
        number: which of it.
        view: of the foundation: how many voxels, and around which spacing; 1 mm where each image decides it.
        foundation: to encode with.
        device: where.
    """
    random = np.random.default_rng((seed, number))
    batch = make_crop(seed, view, first=number)
    image = batch.image[0, 0].numpy()
    factor = float(np.exp(random.uniform(np.log(_NARROWEST), np.log(_WIDEST))))
    x, y, z = (mm * factor for mm in view.over(view.size_voxels, (1.0, 1.0, 1.0)).edges_mm)
    geometry = Geometry(image.shape, (x, y, z))
    labels = Volume(batch.target[0, 0].numpy().astype(np.uint8), geometry)
    case = CaseWindows(Volume(image - image.min(), geometry), labels, foundation, device)
    return case, clicks_in(labels, (1,), 1, random)[0]


def scan_features(
    count: int,
    view: View,
    foundation: Foundation,
    foundation_sha256: str,
    folder: Path,
    device: torch.device,
    progress: Progress = silent,
) -> Tensor:
    """Gate features of the first click on each scan of the calibration set, (count, 5C) float32.

    Those of the built-in foundation come with the package. Others are kept on disk.

    Args:
        count: how many scans.
        view: of the general expert.
        foundation: on `device`.
        foundation_sha256: its weights.
        folder: where to keep them, some scans to a file, so that a killed run goes on.
        device: where to compute.
        progress: told after each file.
    """
    made = {"foundation": foundation_sha256, "view": view.model_dump(), "seed": CALIBRATION}
    shipped = _shipped(sha256_json(made))
    if count <= len(shipped):
        return shipped[:count]
    parts = []
    for first in track(range(0, count, _CHUNK), "synthetic scans", progress):
        path = folder / f"{sha256_json({**made, 'scans': _CHUNK, 'first': first})[:32]}.safetensors"
        if (kept := _kept(path)) is None:
            numbers = range(first, first + _CHUNK)
            rows = [_features(number, view, foundation, device) for number in numbers]
            kept = torch.cat(rows)
            save_tensors(path, {"features": kept})
        parts.append(kept)
    return torch.cat(parts)[:count]


@torch.no_grad()
def _features(number: int, view: View, foundation: Foundation, device: torch.device) -> Tensor:
    case, click = synthetic_scan(CALIBRATION, number, view, foundation, device)
    window = case.window(view, click)
    labels = torch.ones(1, 1, dtype=torch.long, device=device)
    return prompt_features(foundation, window.embedding, window.click.to(device)[None, None], labels).cpu()


def _shipped(made_of: str) -> Tensor:
    """What comes with the package, (n, 5C); nothing for another foundation or view."""
    path = builtin_file(SHIPPED)
    if load_metadata(path).get("made_of") != made_of:
        return torch.empty(0, 0)
    return load_tensors(path)["features"].float()


def _kept(path: Path) -> Tensor | None:
    if not path.is_file():
        return None
    try:
        return load_tensors(path)["features"]
    except (CheckpointError, KeyError):
        path.unlink()  # damaged: make it again
        return None
