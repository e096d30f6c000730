"""What the gate sees of simulated prompts on cached crops."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from moe_pipeline.embeddings.cache import EmbeddingCache
from moe_pipeline.mixture.gate_features import prompt_features
from moe_pipeline.model.foundation import Foundation
from moe_pipeline.progress import Progress, silent, track
from moe_pipeline.training.expert.task import load_prompts
from moe_pipeline.training.interactive.simulated_clicks import draw_click

_MAX_CLICKS = 5
_BATCH = 16
_BACKGROUND = 0
_MARGIN_VOXELS = 4  # so near a border, who clicks may well mean the object

ObjectKey = tuple[str, int]
"""Case id and class id."""


@dataclass(frozen=True, slots=True)
class PromptFeatures:
    """Gate features of some prompts, and what they ask for.

    Attributes:
        rows: (P, 5C) float32 on the CPU; (0, 0) if there are none.
        objects: the object of each prompt.
    """

    rows: Tensor
    objects: tuple[ObjectKey, ...]

    @property
    def cases(self) -> tuple[str, ...]:
        """Case id of each prompt."""
        return tuple(case for case, _ in self.objects)


@torch.no_grad()
def collect_features(
    cache: EmbeddingCache,
    numbers: Sequence[int],
    limit: int,
    foundation: Foundation,
    seed: int,
    device: torch.device,
    progress: Progress = silent,
    *,
    background_clicks: bool = False,
) -> PromptFeatures:
    """Gate features of simulated prompts: 1 to 5 clicks on a random class of cached crops.

    The first click lies in the object; later ones in it or, one in three, beside it. Prompts `background_clicks` mean
    something else in the same image, with every first click well away from all objects.

    Args:
        cache: crops in the foundation's view.
        numbers: samples to prompt; all of them once if there are fewer than `limit`, then again with other clicks.
        limit: prompts in all, at most four per sample.
        foundation: for its prompt encoder.
        seed: same seed, same prompts.
        device: where to compute.
        progress: told after each batch.
        background_clicks: prompt the background; crops without any, away from the objects, give no prompt.
    """
    random = np.random.default_rng((seed, len(numbers)))
    order = np.concatenate([random.permutation(np.asarray(numbers)) for _ in range(4)])[:limit]
    classes = [int(random.choice(cache.classes_of(int(n)))) for n in order]
    chosen = [
        (int(n), _BACKGROUND if background_clicks else class_id) for n, class_id in zip(order, classes, strict=True)
    ]
    features, objects = [], []
    batches = [chosen[i : i + _BATCH] for i in range(0, len(chosen), _BATCH)]
    for batch_index, batch in enumerate(track(batches, f"prompts of {cache.manifest.dataset}", progress)):
        prompts = load_prompts(cache, batch, device)
        generator = torch.Generator().manual_seed(seed * 1_000_003 + batch_index)
        target = _shrunken(prompts.target) if background_clicks else prompts.target  # (P, 1, *crop)
        usable = target.flatten(1).any(1)  # (P,)
        if not usable.any():
            continue
        target, embedding = target[usable], prompts.embedding[usable]
        coordinates, labels = _random_clicks(target, int(random.integers(1, _MAX_CLICKS + 1)), generator)
        features.append(prompt_features(foundation, embedding, coordinates, labels).cpu())
        objects += [
            (cache.case_of(number), class_id)
            for (number, class_id), use in zip(batch, usable.tolist(), strict=True)
            if use
        ]
    rows = torch.cat(features) if features else torch.empty(0, 0)
    return PromptFeatures(rows, tuple(objects))


def _random_clicks(target: Tensor, n_clicks: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    coordinates = [draw_click(target, generator)]
    labels = [torch.ones(len(target), dtype=torch.long, device=target.device)]
    for _ in range(n_clicks - 1):
        inside = bool(torch.rand((), generator=generator) > 1 / 3)
        coordinates.append(draw_click(target if inside else ~target, generator))
        labels.append(torch.full_like(labels[0], int(inside)))
    return torch.stack(coordinates, dim=1).float(), torch.stack(labels, dim=1)  # (P, n, 3), (P, n)


def _shrunken(region: Tensor) -> Tensor:
    """A region without its outermost voxels, (P, 1, *crop) bool; the crop's faces are no border."""
    outside = (~region).float()
    for axis in range(3):
        reach = [0, 0, 0]
        reach[axis] = _MARGIN_VOXELS
        kernel = [2 * voxels + 1 for voxels in reach]
        outside = functional.max_pool3d(outside, kernel, stride=1, padding=reach)
    return outside == 0
