import copy

import pytest
import torch

from moe_pipeline.model.foundation import Foundation, build_foundation
from moe_pipeline.presets import load_preset


def test_same_seed_same_weights(small: Foundation) -> None:
    states = []
    for _ in range(2):
        torch.manual_seed(3)
        states.append(build_foundation(small.config).state_dict())
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())


def test_positions_follow_the_loaded_weights(small: Foundation) -> None:
    other = build_foundation(small.config)
    other.load_state_dict(small.state_dict())
    assert torch.equal(other.mask_decoder.positions, small.mask_decoder.positions)
    copied = copy.deepcopy(small)
    copied.load_state_dict(build_foundation(small.config).state_dict())
    assert not torch.equal(copied.mask_decoder.positions, small.mask_decoder.positions)


@pytest.mark.parametrize("name", ["nano", "sam_med3d"])
def test_presets_have_the_sizes_they_promise(name: str) -> None:
    preset = load_preset(name)
    assert preset.view.size_voxels == preset.config.encoder.img_size
    with torch.device("meta"):
        foundation = build_foundation(preset.config)
    millions = sum(parameter.numel() for parameter in foundation.parameters()) / 1e6
    assert millions == pytest.approx({"nano": 7.15, "sam_med3d": 100.5}[name], abs=0.05)


@torch.no_grad()
def test_nano_goes_from_image_to_mask() -> None:
    nano = build_foundation(load_preset("nano").config)
    embedding = nano.image_encoder(torch.randn(1, 1, 64, 64, 64))
    assert embedding.shape == (1, 192 + 64 * 32, 8, 8, 8)  # tokens, and details of their cells
    sparse, dense = nano.prompt_encoder(points=(torch.zeros(1, 1, 3), torch.ones(1, 1, dtype=torch.long)))
    logits, iou = nano.mask_decoder(embedding, sparse, dense)
    assert (logits.shape, iou.shape) == ((1, 1, 32, 32, 32), (1, 1))


def test_every_part_of_nano_learns() -> None:
    nano = build_foundation(load_preset("nano").config)
    embedding = nano.image_encoder(torch.randn(2, 1, 64, 64, 64))
    points = (torch.rand(2, 2, 3) * 64, torch.tensor([[1, 0], [1, -1]]))
    logits, iou = nano.mask_decoder(embedding, *nano.prompt_encoder(points=points, mask=torch.randn(2, 1, 32, 32, 32)))
    (logits.square().mean() + iou.square().mean()).backward()
    unused = {name for name, parameter in nano.named_parameters() if parameter.grad is None}
    cancels = "token_to_image.k_proj.bias"  # adds the same to all logits of a softmax
    elsewhere = ("hypernetworks", "no_mask", "mask_ranker")  # for first clicks, and for prompts without a mask
    assert all(any(part in name for part in elsewhere) or name.endswith(cancels) for name in unused)
