"""Who really segments an object better, the general decoder or the expert: a target for the gate."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from moe_pipeline.embeddings.cache import EmbeddingCache
from moe_pipeline.imaging.overlap import dice
from moe_pipeline.model.foundation import Decoder, Foundation
from moe_pipeline.model.moe.selector import GENERAL
from moe_pipeline.progress import Progress, silent, track
from moe_pipeline.training.expert.task import load_prompts
from moe_pipeline.training.gate.features import ObjectKey
from moe_pipeline.training.interactive.simulated_clicks import click_sequence, full_size

_CLICKS = 3
_BATCH = 8


@dataclass(frozen=True, slots=True)
class Judgement:
    """Mean Dice of both decoders on each object that both have crops of, each in its own view."""

    general: Mapping[ObjectKey, float]
    expert: Mapping[ObjectKey, float]

    def better(self, margin: float) -> dict[ObjectKey, bool]:
        """Objects that the expert segments better by more than the margin."""
        shared = self.general.keys() & self.expert.keys()
        return {key: self.expert[key] > self.general[key] + margin for key in sorted(shared)}


@torch.no_grad()
def object_dice(
    cache: EmbeddingCache,
    cases: Sequence[str],
    foundation: Foundation,
    decoder: Decoder,
    seed: int,
    device: torch.device,
    progress: Progress = silent,
) -> dict[ObjectKey, float]:
    """Mean Dice of a decoder on each object, over its crops without augmentation and over the first three clicks.

    Args:
        cache: crops in the view that the decoder answers in.
        cases: whose objects.
        foundation: embeds the prompts.
        decoder: general or expert.
        seed: of the clicks.
        device: where to compute.
        progress: told after each batch.
    """
    numbers = cache.of_cases(cases, augmented=False)
    chosen = [(number, class_id) for number in numbers for class_id in cache.classes_of(number)]
    scores: dict[ObjectKey, list[float]] = defaultdict(list)
    batches = [chosen[i : i + _BATCH] for i in range(0, len(chosen), _BATCH)]
    for index, batch in enumerate(track(batches, f"answers on {cache.manifest.dataset}", progress)):
        prompts = load_prompts(cache, batch, device)
        generator = torch.Generator().manual_seed(seed * 1_000_003 + index)
        answers = click_sequence(foundation, decoder, prompts.embedding, prompts.target, _CLICKS, generator)
        for answer in answers:
            masks = (full_size(answer.logits, prompts.target.shape[2:]) > 0).cpu().numpy()
            pairs = zip(batch, masks, prompts.target.cpu().numpy(), strict=True)
            for (number, class_id), mask, target in pairs:
                scores[cache.case_of(number), class_id].append(dice(mask, target))
    return {key: float(np.mean(values)) for key, values in scores.items()}


def dice_targets(objects: Sequence[ObjectKey], better: Mapping[ObjectKey, bool], output: int) -> Tensor:
    """The output that should answer each prompt, (P,) int64: the expert's where it is better, else the general one's.

    An object that only one of the two could be judged on stays with the general expert.

    Args:
        objects: of the prompts.
        better: as `Judgement.better` gives it.
        output: the expert's.
    """
    return torch.tensor([output if better.get(key, False) else GENERAL for key in objects])
