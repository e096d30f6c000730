"""Training of experts on cached embeddings."""

import torch

from moe_pipeline.training.finetune import FinetuneOptions, finetune
from moe_pipeline.weights.tensors import load_tensors
from moe_pipeline.workspace import Workspace

NAME = "Dataset001_One"


def test_an_expert_learns_in_bf16_too(place: Workspace) -> None:
    path = place.expert(NAME) / "expert.safetensors"
    in_fp32 = load_tensors(path)
    options = FinetuneOptions(epochs=1, precision="bf16", overwrite=True, prompter=None)
    card = finetune(place, place.raw(NAME), options)
    in_bf16 = load_tensors(path)
    assert all(0 <= value <= 1 for value in card.validation.values())
    assert all(tensor.dtype == in_fp32[name].dtype for name, tensor in in_bf16.items())
    differing = [name for name, tensor in in_bf16.items() if not torch.equal(tensor, in_fp32[name])]
    assert differing
    for name in differing:  # the same steps, but for rounding
        torch.testing.assert_close(in_bf16[name], in_fp32[name], rtol=0, atol=0.02)
