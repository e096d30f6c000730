"""Every tensor is made where the weights are: all that a prompt goes through, on a device without numbers and on a GPU.

On torch's `meta` device a product of two tensors fails where one of them lies on the CPU, as it does on a GPU.
"""

import copy

import pytest
import torch
from torch import Tensor

from moe_pipeline.mixture.gate_features import prompt_features
from moe_pipeline.model.config import FoundationConfig
from moe_pipeline.model.moe.gate import N_IMAGE_GROUPS, Gate, GateConfig, OODDetector
from moe_pipeline.model.sam.foundation import SamFoundation, build_foundation
from moe_pipeline.presets import load_preset
from moe_pipeline.training.engine.losses import interaction_loss, occupancy
from moe_pipeline.training.interactive.simulated_clicks import click_sequence

META = torch.device("meta")


def preset_config(name: str) -> FoundationConfig:
    return load_preset(name).config


def learn_from_two_prompts(foundation: SamFoundation, device: torch.device) -> Tensor:
    """Loss of two clicks each on two objects of one image; gradients reach the decoder."""
    size = foundation.config.encoder.img_size
    images = torch.randn(1, 1, size, size, size, generator=torch.Generator().manual_seed(1)).to(device)
    target = torch.rand(2, 1, size, size, size, generator=torch.Generator().manual_seed(2)).to(device) > 0.7
    embedding = foundation.image_encoder(images)
    losses = []
    steps = click_sequence(foundation, foundation.decoder, embedding, target, 2, torch.Generator().manual_seed(3))
    for step in steps:
        truth = occupancy(target, step.logits.shape[2:])
        losses.append(interaction_loss(step.candidates, truth, 0.2, balance=0.5))
    return torch.stack(losses).sum()


@torch.no_grad()
def answer_and_route(foundation: SamFoundation, device: torch.device) -> list[Tensor]:
    """Masks of two prompts with and without an earlier answer, and what gate and OOD detector make of them."""
    config = foundation.config
    size, low, width = config.encoder.img_size, config.low_resolution_size, config.prompt.embed_dim
    image = torch.randn(1, 1, size, size, size, generator=torch.Generator().manual_seed(1)).to(device)
    points = (torch.full((2, 3, 3), size / 2, device=device), torch.tensor([[1, 0, -1], [1, 1, 0]], device=device))
    mask = torch.ones(2, 1, low, low, low, device=device)
    embedding = foundation.image_encoder(image)
    answers: list[Tensor] = []
    for earlier in (None, mask):
        sparse, dense = foundation.prompt_encoder(points=points, mask=earlier)
        answers += foundation.mask_decoder(embedding, sparse, dense)
        answers += foundation.mask_decoder(embedding, sparse, dense, multimask_output=True)
        answers += foundation.mask_decoder.candidates(embedding, sparse, dense).answer()
    features = prompt_features(foundation, embedding, *points)
    with device:
        gate, detector = Gate(GateConfig(width, n_experts=2)), OODDetector(N_IMAGE_GROUPS * width, 4)
    return [*answers, features, gate.weights(features), detector.knows(features)]


@pytest.mark.parametrize("name", ["nano", "sam_med3d"])
def test_answering_makes_no_tensor_elsewhere(name: str) -> None:
    with META:
        foundation = build_foundation(preset_config(name)).eval()
    answers = answer_and_route(foundation, META)
    assert {answer.device for answer in answers} == {META}
    low = foundation.config.low_resolution_size
    assert answers[0].shape == (2, 1, low, low, low)


@pytest.mark.parametrize("name", ["nano", "sam_med3d"])
def test_learning_makes_no_tensor_elsewhere(name: str) -> None:
    with META:
        foundation = build_foundation(preset_config(name))
    loss = learn_from_two_prompts(foundation, META)
    loss.backward()
    assert loss.device == META
    assert any(parameter.grad is not None for parameter in foundation.mask_decoder.parameters())


@pytest.mark.gpu
def test_a_gpu_answers_as_the_cpu_does(small_foundation: SamFoundation, gpu: torch.device) -> None:
    there = copy.deepcopy(small_foundation).to(gpu)
    for found, expected in zip(
        answer_and_route(there, gpu)[:-2], answer_and_route(small_foundation, torch.device("cpu"))[:-2], strict=True
    ):
        assert found.device.type == gpu.type
        torch.testing.assert_close(found.cpu(), expected, atol=1e-3, rtol=1e-3)


@pytest.mark.gpu
def test_a_gpu_learns_as_the_cpu_does(small_foundation: SamFoundation, gpu: torch.device) -> None:
    here = copy.deepcopy(small_foundation).requires_grad_(True)
    there = copy.deepcopy(here).to(gpu)
    losses = learn_from_two_prompts(here, torch.device("cpu")), learn_from_two_prompts(there, gpu)
    for loss in losses:
        loss.backward()
    assert losses[1].item() == pytest.approx(losses[0].item(), rel=1e-2)
    moved = [name for name, parameter in there.mask_decoder.named_parameters() if parameter.grad is not None]
    assert moved == [name for name, parameter in here.mask_decoder.named_parameters() if parameter.grad is not None]
