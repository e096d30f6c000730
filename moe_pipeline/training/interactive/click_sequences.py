"""Click sequences take turns: a step of training answers the next click of one of them, and learns from it.

So every answer that is paid for is learnt from, and the ones before it need not be given again.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

from moe_pipeline.model.foundation import Decoder, Foundation
from moe_pipeline.training.engine.losses import imitation_loss, interaction_loss, occupancy
from moe_pipeline.training.engine.processes import Processes
from moe_pipeline.training.engine.runtime import quiet_worker
from moe_pipeline.training.interactive.simulated_clicks import (
    BatchPart,
    ClickState,
    InteractionStep,
    SequenceHints,
    boxes_around,
    click_sequence,
)

_TOLD = 0.5  # of all click sequences
_JITTER = 0.1  # of an object's length


@dataclass(frozen=True, slots=True)
class PromptBatch:
    """Embeddings with one object each to be segmented.

    Attributes:
        embedding: (P, C, *grid) float32; of a cache that is not encoded images, (P, 1, *crop).
        target: (P, 1, *crop) bool.
        text: names of the objects, as the foundation's text encoder gives them, (P, C); None without.
        imitated: (P,) bool, where the teacher's answers are learnt from; the target only says where to click. None for
            nowhere.
    """

    embedding: Tensor
    target: Tensor
    text: Tensor | None = None
    imitated: Tensor | None = None


def joined(parts: Sequence[PromptBatch]) -> PromptBatch:
    """One batch of several, all of them with names or none."""
    texts = [part.text for part in parts if part.text is not None]
    imitated = [
        torch.zeros(len(part.target), dtype=torch.bool, device=part.target.device)
        if part.imitated is None
        else part.imitated
        for part in parts
    ]
    return PromptBatch(
        torch.cat([part.embedding for part in parts]),
        torch.cat([part.target for part in parts]),
        torch.cat(texts) if texts else None,
        torch.cat(imitated),
    )


@dataclass(frozen=True, slots=True)
class InteractiveModel:
    """Who answers prompts."""

    embed: Callable[[Tensor], Tensor]
    """From what a batch holds to embeddings (P, C, *grid)."""
    foundation: Foundation
    """Embeds clicks and previous masks."""
    decoder: Decoder
    """Answers."""


def as_it_is(embedding: Tensor) -> Tensor:
    """For a `InteractiveModel` on batches that hold embeddings."""
    return embedding


@dataclass(frozen=True, slots=True)
class SequenceSettings:
    """Who is prompted how often."""

    prompts: int
    """Of one step, in all processes together."""
    max_clicks: int
    """Clicks per prompt at most."""
    count: int
    """Click sequences that take turns."""
    iou_weight: float
    """Weight of the IoU head's loss."""
    seed: int
    """Of lengths and clicks."""


@dataclass(frozen=True, slots=True)
class _ClickSequence:
    """One batch that is prompted from step `began` on, and not any more in step `ended`."""

    began: int
    ended: int
    batch: PromptBatch


class ClickSequences:
    """Batches that are prompted in turn, the next one read meanwhile.

    Args:
        read: gives this process's part of the batch of the click sequence that begins in some step.
        settings: see there.
        processes: who shares the batches.
        teacher: who is imitated, with the learner's foundation; nobody if None.
    """

    def __init__(
        self,
        read: Callable[[int], PromptBatch],
        settings: SequenceSettings,
        processes: Processes,
        teacher: Decoder | None = None,
    ) -> None:
        self.teacher = teacher
        self.settings = settings
        self.processes = processes
        self._read = read
        self._reader = quiet_worker()
        self._ahead: tuple[int, Future[PromptBatch]] | None = None
        self._open: dict[int, _ClickSequence] = {}  # by number, from 0 to settings.count
        self._states: dict[int, ClickState] = {}  # by number, too

    def loss(self, step: int, learner: InteractiveModel) -> Tensor:
        """Interaction loss after the next click of the click sequence whose turn it is; a scalar.

        Args:
            step: its number; a click sequence's steps have to be asked for in order.
            learner: who answers.
        """
        s, number = self.settings, step % self.settings.count
        sequence = self._sequence(step)
        batch, after = sequence.batch, self._states[number] if sequence.began < step else None
        seed = np.random.default_rng((s.seed, step, 1)).integers(2**62)
        generator = torch.Generator().manual_seed(int(seed))
        part = BatchPart(self.processes.part_of(s.prompts).start, s.prompts)
        embedding = learner.embed(batch.embedding)  # (P, C, *grid)
        hints = hints_of(learner.foundation, batch, (s.seed, sequence.began, 3), part)
        turns = click_sequence(
            learner.foundation, learner.decoder, embedding, batch.target, 1, generator, part, after, hints
        )
        answer = next(turns)
        self._states[number] = answer.remembered()
        share = len(batch.target) * self.processes.size / s.prompts  # 1 if all processes have as many prompts
        return self._loss(batch, embedding, answer) * share

    def _loss(self, batch: PromptBatch, embedding: Tensor, answer: InteractionStep) -> Tensor:
        """Mean over the prompts: against the truth, and against the teacher where it is imitated."""
        truth, weight = occupancy(batch.target, answer.logits.shape[2:]), self.settings.iou_weight
        imitated = batch.imitated
        if self.teacher is None or imitated is None or not imitated.any():
            return interaction_loss(answer.candidates, truth, weight)
        with torch.no_grad():
            taught = self.teacher.decode(self.teacher.prepare(embedding[imitated]), answer.prompts.of(imitated))
        loss = imitation_loss(answer.candidates.of(imitated), taught, weight) * imitated.float().mean()
        if imitated.all():
            return loss
        own = ~imitated
        return loss + interaction_loss(answer.candidates.of(own), truth[own], weight) * own.float().mean()

    def begun(self, steps: int) -> int:
        """How many click sequences begin in the first steps of a run."""
        total = 0
        for number in range(self.settings.count):
            began = number
            while began < steps:
                began, total = self._end(began), total + 1
        return total

    def memory(self) -> dict[str, Tensor]:
        """What was said in all click sequences, of all processes; each of them has to call this."""
        return {
            f"{number}.{field.name}": self.processes.collect(getattr(state, field.name))
            for number, state in sorted(self._states.items())
            for field in fields(ClickState)
        }

    def remember(self, memory: dict[str, Tensor]) -> None:
        """Go on with the click sequences that `memory` gave."""
        part, names = self.processes.part_of(self.settings.prompts), [field.name for field in fields(ClickState)]
        device = self.processes.device
        for number in range(self.settings.count):
            if f"{number}.{names[0]}" in memory:
                self._states[number] = ClickState(*(memory[f"{number}.{name}"][part].to(device) for name in names))

    def close(self) -> None:
        """Stop reading ahead."""
        self._reader.shutdown(cancel_futures=True)

    def _sequence(self, step: int) -> _ClickSequence:
        """The click sequence of a step, with its batch; the batch that the following step needs is read meanwhile."""
        number = step % self.settings.count
        if not self._is_open(step):
            began, ended = self._span(step)
            reading = self._ahead[1] if self._ahead and self._ahead[0] == step else self._ask(began)
            self._open[number] = _ClickSequence(began, ended, reading.result())
        if not self._is_open(step + 1):
            self._ahead = (step + 1, self._ask(self._span(step + 1)[0]))
        return self._open[number]

    def _ask(self, began: int) -> Future[PromptBatch]:
        """Always of the same thread: what is computed there may depend on how many threads share the work."""
        return self._reader.submit(self._read, began)

    def _is_open(self, step: int) -> bool:
        known = self._open.get(step % self.settings.count)
        return known is not None and known.began <= step < known.ended

    def _span(self, step: int) -> tuple[int, int]:
        """The first step of the click sequence that a step belongs to, and the step in which the next one begins."""
        known = self._open.get(step % self.settings.count)
        ended = known.ended if known and known.ended <= step else step % self.settings.count
        began = ended
        while ended <= step:
            began, ended = ended, self._end(ended)
        return began, ended

    def _end(self, began: int) -> int:
        share = np.random.default_rng((self.settings.seed, began, 2)).random()
        return began + clicks_until(share, self.settings.max_clicks) * self.settings.count


def hints_of(foundation: Foundation, batch: PromptBatch, seed: tuple[int, ...], part: BatchPart) -> SequenceHints:
    """What a click sequence is told beside clicks, as far as the foundation takes it: half of them boxes, half names.

    Args:
        foundation: of the learner.
        batch: this process's part of its objects.
        seed: of the click sequence; the same in each of its turns.
        part: which of the objects these are.
    """
    random = np.random.default_rng(seed)
    boxed, named = random.random(2) < _TOLD
    boxes = None
    if boxed and "boxes" in foundation.takes:
        generator = torch.Generator().manual_seed(int(random.integers(2**62)) + part.start)
        boxes = boxes_around(batch.target, _JITTER, generator)
    return SequenceHints(boxes, batch.text if named and "text" in foundation.takes else None)


def clicks_until(share: float, most: int) -> int:
    """Length that a share of all click sequences reach: many have one click, and many of the rest all.

    Answers to k clicks are then as frequent as where the square of a uniform number is drawn for each of them: those to
    the first most of all, those to the last still a quarter as often, as an expert that is to be corrected needs.
    """
    return sum(k**0.5 - (k - 1) ** 0.5 > share for k in range(1, most + 1))
