"""Synthetic volumes as general data for the gate: the rest of the world, for somebody who has only their own scans."""

from pathlib import Path

import torch
from torch import Tensor

from moe_pipeline.files import sha256_json
from moe_pipeline.mixture.gate_features import prompt_features
from moe_pipeline.model.foundation import Foundation
from moe_pipeline.progress import Progress, silent, track
from moe_pipeline.records.foundation import View
from moe_pipeline.synthetic import GENERATOR_VERSION
from moe_pipeline.synthetic.views import in_view, make_crop
from moe_pipeline.training.interactive.simulated_clicks import draw_click
from moe_pipeline.weights.tensors import kept_tensors

_SEED = 2_000_000_011  # far from the seeds of pretraining and of its validation
_PROMPTS = 4  # objects prompted in each volume


@torch.no_grad()
def background_features(
    foundation: Foundation,
    foundation_sha256: str,
    view: View,
    volumes: int,
    folder: Path,
    device: torch.device,
    progress: Progress = silent,
) -> Tensor:
    """Gate features of one click on objects of synthetic volumes; kept on disk, since they never change.

    Args:
        foundation: on `device`.
        foundation_sha256: its weights.
        view: of the general expert.
        volumes: how many.
        folder: where to keep them.
        device: where to compute.
        progress: told after each volume.

    Returns:
        (4 x volumes, 5C) float32 on the CPU, the prompts of a volume together.
    """
    fields = {"foundation": foundation_sha256, "view": view.model_dump(), "volumes": volumes, "seed": _SEED}
    key = sha256_json({**fields, "generator": GENERATOR_VERSION})

    def make() -> dict[str, Tensor]:
        return {"features": _features(foundation, view, volumes, device, progress)}

    return kept_tensors(folder / f"{key[:32]}.safetensors", make, "features")["features"]


def _features(foundation: Foundation, view: View, volumes: int, device: torch.device, progress: Progress) -> Tensor:
    parts = []
    for number in track(range(volumes), "synthetic background", progress):
        batch = make_crop(_SEED, view, targets=_PROMPTS, first=number)
        image = torch.from_numpy(in_view(batch.image[0, 0].numpy(), view))[None, None].to(device)
        embedding = foundation.encode(image).half().float()  # (1, C, *grid), rounded as in the cache
        target = batch.target[0, :, None]  # (k, 1, *crop)
        clicks = draw_click(target, torch.Generator().manual_seed(number)).float()[:, None].to(device)  # (k, 1, 3)
        labels = torch.ones(len(target), 1, dtype=torch.long, device=device)
        parts.append(prompt_features(foundation, embedding, clicks, labels).cpu())
    return torch.cat(parts)
