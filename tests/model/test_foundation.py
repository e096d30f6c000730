import copy

import pytest
import torch

from moe_pipeline.model.foundation import Decoder, Foundation
from moe_pipeline.model.sam.foundation import SamFoundation, build_foundation
from moe_pipeline.presets import load_preset


def test_same_seed_same_weights(small: SamFoundation) -> None:
    states = []
    for _ in range(2):
        torch.manual_seed(3)
        states.append(build_foundation(small.config).state_dict())
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())


def test_positions_follow_the_loaded_weights(small: SamFoundation) -> None:
    other = build_foundation(small.config)
    other.load_state_dict(small.state_dict())
    assert torch.equal(other.mask_decoder.positions, small.mask_decoder.positions)
    copied = copy.deepcopy(small)
    copied.load_state_dict(build_foundation(small.config).state_dict())
    assert not torch.equal(copied.mask_decoder.positions, small.mask_decoder.positions)


@pytest.mark.parametrize("name", ["nano", "sam_med3d"])
def test_presets_have_the_sizes_they_promise(name: str) -> None:
    preset = load_preset(name)
    assert preset.view.size_voxels == preset.config.geometry.crop_size
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


@pytest.fixture(scope="module")
def nano() -> SamFoundation:
    torch.manual_seed(0)
    return build_foundation(load_preset("nano").config).eval().requires_grad_(False)


def asked(foundation: SamFoundation) -> tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor], torch.Tensor]:
    """A crop, two prompts of two clicks each, and previous logits."""
    generator = torch.Generator().manual_seed(1)
    size, low = foundation.geometry.crop_size, foundation.geometry.low_resolution_size
    crop = torch.randn(1, 1, *size, generator=generator)
    coordinates = torch.rand(2, 2, 3, generator=generator) * size[0]
    return crop, (coordinates, torch.tensor([[1, 0], [1, 1]])), torch.randn(2, 1, *low, generator=generator)


@pytest.mark.parametrize("name", ["small", "nano"])
def test_the_protocol_gives_what_upstreams_parts_give(name: str, request: pytest.FixtureRequest) -> None:
    foundation: SamFoundation = request.getfixturevalue(name)
    crop, points, mask = asked(foundation)
    embedding = foundation.encode(crop)
    assert torch.equal(embedding, foundation.image_encoder(crop))
    assert embedding.shape[0] == 1
    assert embedding.shape[1] >= foundation.embedding_width
    assert embedding.shape[2:] == foundation.geometry.grid_size
    prompts = foundation.embed_prompts(points, mask=mask)
    answer = foundation.decoder.decode(foundation.decoder.prepare(embedding), prompts).answer()
    sparse, dense = foundation.prompt_encoder(points=points, mask=mask)
    expected = foundation.mask_decoder(embedding, sparse, dense)
    assert all(torch.equal(one, other) for one, other in zip(answer, expected, strict=True))
    assert answer[0].shape[2:] == mask.shape[2:]


@pytest.mark.parametrize("name", ["small", "nano"])
def test_the_gate_gets_the_same_as_a_decoder_as_far_as_it_looks(name: str, request: pytest.FixtureRequest) -> None:
    foundation: SamFoundation = request.getfixturevalue(name)
    _, points, mask = asked(foundation)
    whole, described = foundation.embed_turn(points, torch.zeros_like(mask)), foundation.describe_prompts(points)
    assert torch.equal(described.sparse, whole.sparse[:, :-1])  # padding says nothing of the prompt
    assert torch.equal(described.dense, whole.dense[:, : foundation.embedding_width])


@torch.no_grad()
def test_an_expert_is_a_decoder_of_its_own(small: SamFoundation) -> None:
    crop, points, mask = asked(small)
    expert = copy.deepcopy(small.decoder)
    assert isinstance(expert, Decoder)
    prepared, prompts = expert.prepare(small.encode(crop)), small.embed_prompts(points, mask=mask)
    same = expert.decode(prepared, prompts).logits
    assert torch.equal(same, small.decoder.decode(prepared, prompts).logits)
    for parameter in expert.parameters():
        parameter.mul_(1.5)
    assert not torch.equal(expert.decode(prepared, prompts).logits, same)
    assert torch.equal(small.decoder.decode(prepared, prompts).logits, same)


def test_boxes_and_text_are_refused_by_a_foundation_that_takes_none(small: SamFoundation) -> None:
    assert small.takes == {"points", "mask"}
    with pytest.raises(ValueError, match="takes clicks and masks, no boxes and no text"):
        small.embed_prompts(boxes=torch.zeros(1, 2, 3))
    with pytest.raises(ValueError, match="no text"):
        small.embed_prompts(text=torch.zeros(1, 48))


def test_a_foundation_without_the_protocol_cannot_be_made() -> None:
    class Half(Foundation):
        def encode(self, crops: torch.Tensor) -> torch.Tensor:
            return crops

    with pytest.raises(TypeError, match="abstract"):
        Half()  # type: ignore[abstract]
