"""One expert: a copy of the general decoder, trained on cached embeddings by simulated clicks."""

import copy
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from moe_pipeline.embeddings.cache import EmbeddingCache
from moe_pipeline.files import sha256_json
from moe_pipeline.imaging.overlap import dice
from moe_pipeline.model.foundation import Decoder, Foundation
from moe_pipeline.training.engine.dead_channels import reinitialise_dead_channels
from moe_pipeline.training.engine.processes import Processes
from moe_pipeline.training.expert.rehearsal import RehearsedPrompts
from moe_pipeline.training.interactive.click_sequences import (
    ClickSequences,
    InteractiveModel,
    PromptBatch,
    SequenceSettings,
    as_it_is,
    joined,
)
from moe_pipeline.training.interactive.simulated_clicks import InteractionStep, click_sequence, full_size

_SHOWN = 24  # prompts on which the decoder shows which of its channels answer
_VALIDATED_TOGETHER = 8  # whatever the batch size, so that the clicks stay the same and scores can be compared


@dataclass(frozen=True, slots=True)
class ExpertSettings:
    """What one step of expert training sees."""

    batch_size: int = 8
    """Prompts per step, each on its own crop."""
    max_clicks: int = 5
    """Clicks per prompt at most."""
    sequences: int = 8
    """Batches that are prompted in turn: a step answers the next click of one of them, and learns from the answer."""
    validation_clicks: int = 5
    """Clicks per prompt in validation."""
    validation_prompts: int = 32
    """Prompts in validation at most, spread over the cases."""
    iou_weight: float = 0.2
    """Weight of the IoU head's loss."""
    rehearsed: float = 0.2
    """Prompts on synthetic scans beside each of these, where there are any; at least one to a step."""
    seed: int = 0
    """Of the order of samples and of the clicks."""


def load_prompts(
    cache: EmbeddingCache,
    chosen: list[tuple[int, int]],
    device: torch.device,
    names: Mapping[int, Tensor] | None = None,
) -> PromptBatch:
    """Read samples and turn one class of each into a target.

    Args:
        cache: where the samples are.
        chosen: sample number and class id of each prompt.
        device: where the tensors go.
        names: of the classes, as the foundation's text encoder gives them, (C,) each.
    """
    samples = [cache.load(number) for number, _ in chosen]
    embedding = torch.stack([sample.embedding.to(device).float() for sample in samples])  # (P, C, *grid)
    masks = [sample.labels == class_id for sample, (_, class_id) in zip(samples, chosen, strict=True)]
    target = torch.from_numpy(np.stack(masks))[:, None].to(device)  # (P, 1, *crop)
    text = torch.stack([names[class_id] for _, class_id in chosen]).to(device) if names else None  # (P, C)
    return PromptBatch(embedding, target, text)


class ExpertTask:
    """Interactive training of one decoder; see `training.task.Task`.

    Args:
        foundation: frozen; the decoder starts as a copy of its own.
        cache: embeddings of the foundation.
        train_cases: ids of the cases to learn from.
        validation_cases: ids of the cases to validate with.
        settings: what a step sees.
        device: where to compute.
        processes: who shares the batches; this process alone if None.
        names: of the classes, as the foundation's text encoder gives them, (C,) each.
        rehearsed: prompts on synthetic scans, some of which are added to each batch; none if None.
    """

    module: nn.Module

    def __init__(
        self,
        foundation: Foundation,
        cache: EmbeddingCache,
        train_cases: list[str],
        validation_cases: list[str],
        settings: ExpertSettings,
        device: torch.device,
        processes: Processes | None = None,
        names: Mapping[int, Tensor] | None = None,
        rehearsed: RehearsedPrompts | None = None,
    ) -> None:
        self.cache = cache
        self.names = names
        self.rehearsed = rehearsed
        self.settings = settings
        self.device = device
        self.train_numbers = cache.of_cases(train_cases, augmented=True)
        self.validation = _validation_prompts(cache, validation_cases, settings)
        self.processes = processes or Processes(device)
        keys = [entry.key for entry in cache.manifest.entries]
        self.identity = sha256_json(
            {"settings": asdict(settings), "cache": keys, "train": train_cases, "val": validation_cases}
            | ({"named": sorted(names)} if names else {})
            | ({"rehearsed": rehearsed.key} if rehearsed else {})
        )
        turns = SequenceSettings(
            self.prompts, settings.max_clicks, settings.sequences, settings.iou_weight, settings.seed
        )
        self._sequences = ClickSequences(self._read, turns, self.processes, foundation.decoder)
        self._take_over(foundation)

    def _take_over(self, foundation: Foundation) -> None:
        decoder = trainable_decoder(foundation)
        self.module = decoder
        self.general = InteractiveModel(as_it_is, foundation, foundation.decoder)
        self.learner = replace(self.general, decoder=decoder)

    def begin(self) -> None:
        """Before a training that is not gone on with, and has something to train on: draw dead channels anew."""
        reinitialise_dead_channels(self.module, self._show_prompts, self.settings.seed)

    @torch.no_grad()
    def _show_prompts(self) -> None:
        """Decode some of what is to be learnt, the same in every process."""
        random = np.random.default_rng(self.settings.seed)
        numbers = random.choice(self.train_numbers, min(_SHOWN, len(self.train_numbers)), replace=False)
        for number in numbers:
            chosen = [(int(number), int(random.choice(self.cache.classes_of(int(number)))))]
            batch = load_prompts(self.cache, chosen, self.device)
            for _ in self._sequence(self.learner, batch, 2, torch.Generator().manual_seed(int(number))):
                pass

    @property
    def batch_size(self) -> int:
        """Prompts on the cache per step, of all processes together."""
        return min(self.settings.batch_size, len(self.train_numbers))

    @property
    def prompts(self) -> int:
        """All prompts per step, those that are rehearsed, too."""
        return self.batch_size + (max(1, round(self.settings.rehearsed * self.batch_size)) if self.rehearsed else 0)

    def loss(self, step: int) -> Tensor:
        """Interaction loss after the next click of one click sequence."""
        return self._sequences.loss(step, self.learner)

    def validate(self) -> dict[str, float]:
        """Mean Dice over the fixed validation prompts after the first and the last click; "score" is their mean."""
        return self.measure(self.learner)

    @torch.no_grad()
    def measure(self, model: InteractiveModel) -> dict[str, float]:
        """The validation columns of anybody, on the same prompts with the same seed."""
        last = self.settings.validation_clicks
        scores: dict[int, list[float]] = {1: [], last: []}
        for start in range(0, len(self.validation), _VALIDATED_TOGETHER):
            batch = load_prompts(self.cache, self.validation[start : start + _VALIDATED_TOGETHER], self.device)
            generator = torch.Generator().manual_seed(start)
            for click, answer in enumerate(self._sequence(model, batch, last, generator), start=1):
                if click in scores:
                    masks = (full_size(answer.logits, batch.target.shape[2:]) > 0).cpu().numpy()
                    scores[click] += [dice(m, t) for m, t in zip(masks, batch.target.cpu().numpy(), strict=True)]
        means = {f"dice_{click}": float(np.mean(values)) for click, values in scores.items()}
        return {"score": float(np.mean(list(means.values()))), **means}

    def _sequence(
        self,
        model: InteractiveModel,
        batch: PromptBatch,
        n_clicks: int,
        generator: torch.Generator,
    ) -> Iterator[InteractionStep]:
        embedding = model.embed(batch.embedding)  # (P, C, *grid)
        return click_sequence(model.foundation, model.decoder, embedding, batch.target, n_clicks, generator)

    def memory(self) -> dict[str, Tensor]:
        """All click sequences, of all processes; each of them has to call this."""
        return self._sequences.memory()

    def remember(self, memory: dict[str, Tensor]) -> None:
        """Go on with the click sequences that `memory` gave."""
        self._sequences.remember(memory)

    def close(self) -> None:
        """Stop reading ahead."""
        self._sequences.close()

    def _read(self, began: int) -> PromptBatch:
        """This process's part of the batch of the click sequence that begins in a step."""
        random, part = np.random.default_rng((self.settings.seed, began, 0)), self.processes.part_of(self.prompts)
        numbers = random.choice(self.train_numbers, self.batch_size, replace=False)
        chosen = [(int(number), int(random.choice(self.cache.classes_of(int(number))))) for number in numbers]
        if self.rehearsed is None:
            return load_prompts(self.cache, chosen[part], self.device, self.names)
        again = [int(number) for number in random.choice(len(self.rehearsed), self.prompts - self.batch_size)]
        beside = slice(max(0, part.start - self.batch_size), max(0, part.stop - self.batch_size))
        parts = [load_prompts(self.cache, chosen[part], self.device, self.names)] if chosen[part] else []
        parts += [self._load_rehearsed(self.rehearsed, again[beside])] if again[beside] else []
        return joined(parts)

    def _load_rehearsed(self, prompts: RehearsedPrompts, numbers: list[int]) -> PromptBatch:
        """Prompts on synthetic scans, on which the general decoder is imitated; whatever they are called."""
        embeddings, targets = zip(*(prompts.load(number) for number in numbers), strict=True)
        embedding = torch.stack(embeddings).to(self.device).float()  # (P, C, *grid)
        text = None
        if self.names:
            names = [self.names[class_id] for class_id in sorted(self.names)]
            text = torch.stack([names[number % len(names)] for number in numbers]).to(self.device)
        imitated = torch.ones(len(numbers), dtype=torch.bool, device=self.device)
        return PromptBatch(embedding, torch.stack(targets)[:, None].to(self.device), text, imitated)


class WholeTask(ExpertTask):
    """The same training of a whole network, encoder included: the cache holds images. What experts are compared with.

    Args are those of `ExpertTask`.
    """

    module: Foundation

    def _take_over(self, foundation: Foundation) -> None:
        foundation.requires_grad_(False)
        self.identity = sha256_json({"task": self.identity, "whole": self.cache.manifest.foundation_sha256})
        self.module = copy.deepcopy(foundation).requires_grad_(True)
        self.general = InteractiveModel(foundation.encode, foundation, foundation.decoder)
        self.learner = InteractiveModel(self.module.encode, self.module, self.module.decoder)

    def begin(self) -> None:
        """Nothing: the baseline starts from the foundation as it is."""


def trainable_decoder(foundation: Foundation) -> Decoder:
    """A copy of the general decoder whose parameters may move, while the foundation's may not."""
    foundation.requires_grad_(False)
    decoder = copy.deepcopy(foundation.decoder)
    return decoder.requires_grad_(True)


def _validation_prompts(cache: EmbeddingCache, cases: list[str], settings: ExpertSettings) -> list[tuple[int, int]]:
    """Every class of every unaugmented crop of the cases, thinned evenly to the limit."""
    numbers = cache.of_cases(cases, augmented=False)
    everything = [(number, class_id) for number in numbers for class_id in cache.classes_of(number)]
    if len(everything) <= settings.validation_prompts:
        return everything
    places = np.linspace(0, len(everything) - 1, settings.validation_prompts).round().astype(int)
    return [everything[place] for place in places]
