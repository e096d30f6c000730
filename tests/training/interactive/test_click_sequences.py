import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from moe_pipeline.model.sam.foundation import SamFoundation
from moe_pipeline.training.engine.processes import Processes
from moe_pipeline.training.interactive.click_sequences import (
    ClickSequences,
    InteractiveModel,
    PromptBatch,
    SequenceSettings,
    clicks_until,
)

CPU = torch.device("cpu")
SETTINGS = SequenceSettings(prompts=2, max_clicks=3, count=2, iou_weight=0.2, seed=5)


def test_answers_to_k_clicks_are_as_frequent_as_squares_of_uniform_numbers_make_them() -> None:
    lengths = np.array([clicks_until(share, 5) for share in np.linspace(0, 1, 100_000, endpoint=False)])
    answers = np.array([np.mean(lengths >= k) for k in range(1, 6)])
    squares = np.bincount((5 * np.linspace(0, 1, 100_000, endpoint=False) ** 2).astype(int), minlength=5)
    assert set(lengths) == {1, 2, 3, 4, 5}
    np.testing.assert_allclose(answers / answers.sum(), squares / squares.sum(), atol=1e-4)


def test_a_batch_is_read_once_for_each_click_sequence(small_foundation: SamFoundation) -> None:
    began: list[int] = []
    sequences, model = talk(small_foundation, began)
    for step in range(20):
        sequences.loss(step, model)
    sequences.close()
    assert sorted(set(began)) == sorted(began)
    assert {step % 2 for step in began} == {0, 1}
    assert 2 < len(began) < 20
    assert sequences.begun(20) == sum(step < 20 for step in began)


def test_a_run_that_stops_again_at_once_forgets_nothing(small_foundation: SamFoundation) -> None:
    first, model = talk(small_foundation, [])
    for step in range(3):
        first.loss(step, model)
    memory = first.memory()
    second, _ = talk(small_foundation, [])
    second.remember(memory)
    again = second.memory()
    assert set(again) == set(memory)
    assert all(torch.equal(again[name], tensor) for name, tensor in memory.items())
    assert torch.equal(first.loss(3, model), second.loss(3, model))
    for sequences in (first, second):
        sequences.close()


@pytest.mark.parametrize(("imitated", "learns"), [([True, True], False), ([True, False], True), (None, True)])
def test_who_is_asked_to_imitate_itself_learns_nothing(
    small_foundation: SamFoundation, imitated: list[bool] | None, learns: bool
) -> None:
    sequences, model = talk(small_foundation, [], imitated)
    copied = copy.deepcopy(small_foundation.decoder).requires_grad_(True)
    loss = sequences.loss(0, replace(model, decoder=copied))
    found = torch.autograd.grad(loss, list(copied.parameters()), allow_unused=True)
    largest = max(float(gradient.abs().max()) for gradient in found if gradient is not None)
    assert (largest > 1e-3) == learns
    assert learns or largest < 1e-5
    sequences.close()


def talk(
    foundation: SamFoundation, began: list[int], imitated: list[bool] | None = None
) -> tuple[ClickSequences, InteractiveModel]:
    """Click sequences about noise, and who answers; the steps in which batches are read are noted."""
    encoder, size = foundation.config.encoder, foundation.config.encoder.img_size

    def read(step: int) -> PromptBatch:
        began.append(step)
        generator = torch.Generator().manual_seed(step)
        target = torch.rand(2, 1, size, size, size, generator=generator) > 0.7
        image = torch.randn(2, 1, size, size, size, generator=generator)
        return PromptBatch(image, target, imitated=None if imitated is None else torch.tensor(imitated))

    @torch.no_grad()
    def embed(images: Tensor) -> Tensor:
        return foundation.image_encoder(images)

    assert encoder.in_chans == 1
    sequences = ClickSequences(read, SETTINGS, Processes(CPU), teacher=foundation.decoder)
    return sequences, InteractiveModel(embed, foundation, foundation.decoder)
