"""Training of experts on cached embeddings."""

from dataclasses import replace
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
import torch

from moe_pipeline.embeddings.cache import EmbeddingCache, Sample
from moe_pipeline.progress import silent
from moe_pipeline.training.expert import ExpertSettings, ExpertTask
from moe_pipeline.training.finetune import FinetuneOptions, finetune
from moe_pipeline.training.session import loop_settings, open_session
from moe_pipeline.training.synthetic import make_batch
from moe_pipeline.weights.load import load_foundation
from moe_pipeline.weights.tensors import load_tensors
from moe_pipeline.workspace import Workspace

NAME = "Dataset001_One"


def test_an_expert_learns_in_bf16_too(place: Workspace) -> None:
    path = place.expert(NAME) / "expert.safetensors"
    options = FinetuneOptions(epochs=1, precision="fp32", overwrite=True, prompter=None)
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
    monkeypatch.setattr("moe_pipeline.training.session.multiplies_bf16", lambda _device: has_bf16)
    session = open_session(place, place.raw(NAME), FinetuneOptions(), silent, encoded=True)
    assert session.options.precision == expected
    assert loop_settings(session.planned.plan, session.options, 1e-3).precision == expected


def test_scores_can_be_compared_whatever_the_batch_size(place: Workspace) -> None:
    session = open_session(place, place.raw(NAME), FinetuneOptions(), silent, encoded=True)
    fold, scores = session.planned.fold, []
    for batch_size in (1, 3):
        settings = ExpertSettings(batch_size=batch_size)
        cases = list(fold.train), list(fold.validation)
        task = ExpertTask(session.planned.foundation, session.cache, *cases, settings, torch.device("cpu"))
        assert len(task.validation) > batch_size
        scores.append(task.measure(task.general))
        task.close()
    assert scores[0] == scores[1]


def test_what_hardly_ever_answers_in_nanos_decoder_is_drawn_anew() -> None:
    foundation = load_foundation("nano")
    before = {name: tensor.clone() for name, tensor in foundation.state_dict().items()}
    batch = make_batch(3, 1, foundation.config.encoder.img_size)
    with torch.no_grad():
        sample = Sample(
            foundation.image_encoder(batch.image)[0].half(), batch.target[0, 0].numpy().astype(np.uint8), (1,)
        )
    cache = SimpleNamespace(
        manifest=SimpleNamespace(entries=[]),
        of_cases=lambda *_, **__: [0],
        classes_of=lambda _number: (1,),
        load=lambda _number: sample,
    )
    one, again = (
        ExpertTask(foundation, cast("EmbeddingCache", cache), [], [], ExpertSettings(), torch.device("cpu"))
        for _ in range(2)
    )
    for task in (one, again):
        task.begin()
    own = one.module.state_dict()
    changed = {name for name, tensor in own.items() if not torch.equal(tensor, before[f"mask_decoder.{name}"])}
    hidden = {f"{layer}.{part}" for layer in ("conv1", "conv2") for part in ("weight", "bias")}
    assert {"cell_network.coarse.0.conv1.weight", "cell_network.coarse.0.conv2.weight"} <= changed
    assert all(name.startswith("cell_network.") and name.split(".", 2)[-1].endswith(tuple(hidden)) for name in changed)
    assert all(torch.equal(tensor, own[name]) for name, tensor in again.module.state_dict().items())
    assert all(torch.equal(tensor, before[name]) for name, tensor in foundation.state_dict().items())
    for task in (one, again):
        task.close()


def test_nothing_to_train_on_is_left_to_the_session_that_says_so() -> None:
    cache = SimpleNamespace(manifest=SimpleNamespace(entries=[]), of_cases=lambda *_, **__: [])
    foundation = load_foundation("nano")
    task = ExpertTask(foundation, cast("EmbeddingCache", cache), [], [], ExpertSettings(), torch.device("cpu"))
    assert task.train_numbers == []
    task.close()
