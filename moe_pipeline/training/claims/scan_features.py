"""Gate features of the synthetic scans that a gate's risk is measured on."""

from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from moe_pipeline.files import sha256_json
from moe_pipeline.mixture.gate_features import prompt_features
from moe_pipeline.model.foundation import Foundation
from moe_pipeline.progress import Progress, silent, track
from moe_pipeline.records.foundation import View
from moe_pipeline.training.interactive.synthetic_scans import CALIBRATION, synthetic_scan
from moe_pipeline.weights.store import builtin_file
from moe_pipeline.weights.tensors import kept_tensors, load_metadata, load_tensors

SHIPPED = "nano_scans.safetensors"
"""Features of the first scans that come with the package, of the built-in foundation in its view, in 16 bits."""

_CHUNK = 50


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
        make = partial(_chunk, first, view, foundation, device)
        parts.append(kept_tensors(path, make, "features")["features"])
    return torch.cat(parts)[:count]


def _chunk(first: int, view: View, foundation: Foundation, device: torch.device) -> dict[str, Tensor]:
    """What one file keeps."""
    numbers = range(first, first + _CHUNK)
    return {"features": torch.cat([_features(number, view, foundation, device) for number in numbers])}


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
