"""Training of experts on cached embeddings."""

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
import torch

from moe_pipeline.embeddings.cache import EmbeddingCache, Sample
from moe_pipeline.model.sam.foundation import SamFoundation
from moe_pipeline.progress import silent
from moe_pipeline.synthetic import make_batch
from moe_pipeline.training.engine.loop import LoopSettings
from moe_pipeline.training.engine.processes import Processes
from moe_pipeline.training.expert.finetune import FinetuneOptions, finetune
from moe_pipeline.training.expert.session import loop_settings, open_session
from moe_pipeline.training.expert.task import ExpertSettings, ExpertTask
from moe_pipeline.weights.tensors import load_tensors
from moe_pipeline.workspace import Workspace
from tests.phantoms.foundations import load_sam

NAME = "Dataset001_One"


def test_an_expert_learns_in_bf16_too(place: Workspace) -> None:
    path = place.expert(NAME) / "expert.safetensors"
    options = FinetuneOptions(epochs=1, precision="fp32", overwrite=True, click_proposer=None)
    finetune(place, place.raw(NAME), options)
    in_fp32 = load_tensors(path)
    card = finetune(place, place.raw(NAME), replace(options, precision="bf16"))
    in_bf16 = load_tensors(path)
    assert all(0 <= value <= 1 for value in card.validation.values())
    assert all(tensor.dtype == in_fp32[name].dtype for name, tensor in in_bf16.items())
    differing = [name for name, tensor in in_bf16.items() if not torch.equal(tensor, in_fp32[name])]
    assert differing
    for name in differing:  # the same steps, but for rounding
        torch.testing.assert_close(in_bf16[name], in_fp32[name], rtol=0, atol=0.02)


@pytest.mark.parametrize(("has_bf16", "expected"), [(True, "bf16"), (False, "fp32")])
def test_bf16_is_chosen_where_it_is_faster(
    place: Workspace, monkeypatch: pytest.MonkeyPatch, has_bf16: bool, expected: str
) -> None:
    monkeypatch.setattr("moe_pipeline.training.expert.session.multiplies_bf16", lambda _device: has_bf16)
    with open_session(place, place.raw(NAME), FinetuneOptions(), silent, [], encoded=True) as session:
        assert session.options.precision == expected
        assert loop_settings(session.planned.plan, session.options, 1e-3).precision == expected


def test_scores_can_be_compared_whatever_the_batch_size(place: Workspace) -> None:
    scores = []
    for batch_size in (1, 3):
        task = expert_task(place, ExpertSettings(batch_size=batch_size))
        assert len(task.validation) > batch_size
        scores.append(task.measure(task.general))
        task.close()
    assert scores[0] == scores[1]


@pytest.fixture(scope="module")
def nano() -> SamFoundation:
    return load_sam("nano")


@pytest.fixture(scope="module")
def one_crop(nano: SamFoundation) -> EmbeddingCache:
    """A cache with a synthetic volume and one class."""
    batch = make_batch(3, 1, nano.config.encoder.img_size)
    with torch.no_grad():
        sample = Sample(nano.image_encoder(batch.image)[0].half(), batch.target[0, 0].numpy().astype(np.uint8), (1,))
    cache = SimpleNamespace(
        manifest=SimpleNamespace(entries=[]),
        of_cases=lambda *_, **__: [0],
        classes_of=lambda _number: (1,),
        load=lambda _number: sample,
    )
    return cast("EmbeddingCache", cache)


SHORT = ExpertSettings(batch_size=3, max_clicks=3, sequences=2)


def expert_task(place: Workspace, settings: ExpertSettings, processes: Processes | None = None) -> ExpertTask:
    with open_session(place, place.raw(NAME), FinetuneOptions(), silent, [], encoded=True) as session:
        pass
    cases = list(session.planned.fold.train), list(session.planned.fold.validation)
    cpu = torch.device("cpu")
    return ExpertTask(session.planned.foundation, session.cache, *cases, settings, cpu, processes)


def test_each_step_answers_the_next_click_of_a_click_sequence(place: Workspace) -> None:
    task, seen = expert_task(place, SHORT), []
    for step in range(16):
        name = f"{step % 2}.coordinates"
        before = task.memory().get(name)
        task.loss(step)
        coordinates = task.memory()[name]
        clicks = coordinates.shape[1]
        if clicks > 1:
            assert before is not None
            assert torch.equal(coordinates[:, :-1], before)
        seen.append(clicks)
    assert set(seen) == {1, 2, 3}
    for own in (seen[::2], seen[1::2]):  # click by click, then a new click sequence
        assert own[0] == 1
        assert all(after in (1, before + 1) for before, after in pairwise(own))
    task.close()


@pytest.mark.parametrize("interrupt_at", [2, 5])
def test_click_sequences_go_on_in_a_resumed_run(
    place: Workspace, whole_and_in_parts: Callable[..., tuple[dict[str, torch.Tensor], ...]], interrupt_at: int
) -> None:
    settings = LoopSettings(steps=9, learning_rate=1e-3, warmup_steps=1, validate_every=4)
    expected, resumed = whole_and_in_parts(lambda: expert_task(place, SHORT), settings, interrupt_at)
    assert all(torch.equal(tensor, expected[name]) for name, tensor in resumed.items())


def test_each_process_goes_on_with_its_own_prompts(place: Workspace) -> None:
    whole = expert_task(place, SHORT)
    for step in range(4):
        whole.loss(step)
    memory = whole.memory()
    whole.close()
    found = []
    for rank in range(2):
        part = expert_task(place, SHORT, Processes(torch.device("cpu"), rank, 2))
        part.remember(memory)
        found.append(part.memory())
        part.close()
    assert memory
    for name, tensor in memory.items():
        assert torch.equal(torch.cat([part[name] for part in found]), tensor)


def test_what_hardly_ever_answers_in_nanos_decoder_is_drawn_anew(nano: SamFoundation, one_crop: EmbeddingCache) -> None:
    before = {name: tensor.clone() for name, tensor in nano.state_dict().items()}
    one, again = (ExpertTask(nano, one_crop, [], [], ExpertSettings(), torch.device("cpu")) for _ in range(2))
    for task in (one, again):
        task.begin()
    own = one.module.state_dict()
    changed = {name for name, tensor in own.items() if not torch.equal(tensor, before[f"mask_decoder.{name}"])}
    hidden = {f"{layer}.{part}" for layer in ("conv1", "conv2") for part in ("weight", "bias")}
    assert {"refinement_unet.coarse.0.conv1.weight", "refinement_unet.coarse.0.conv2.weight"} <= changed
    assert all(
        name.startswith("refinement_unet.") and name.split(".", 2)[-1].endswith(tuple(hidden)) for name in changed
    )
    assert all(torch.equal(tensor, own[name]) for name, tensor in again.module.state_dict().items())
    assert all(torch.equal(tensor, before[name]) for name, tensor in nano.state_dict().items())
    for task in (one, again):
        task.close()


def test_nothing_to_train_on_is_left_to_the_session_that_says_so(nano: SamFoundation) -> None:
    cache = SimpleNamespace(manifest=SimpleNamespace(entries=[]), of_cases=lambda *_, **__: [])
    task = ExpertTask(nano, cast("EmbeddingCache", cache), [], [], ExpertSettings(), torch.device("cpu"))
    assert task.train_numbers == []
    task.close()
