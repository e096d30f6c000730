"""What travels with the tokens, low-resolution voxel by low-resolution voxel."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from moe_pipeline.model.config import EncoderConfig, FoundationConfig
from moe_pipeline.model.foundation import Candidates
from moe_pipeline.model.moe.gate import gate_features
from moe_pipeline.model.nano.high_resolution_features import PROMPT_FEATURES, pack, prompt_features_per_voxel, unpack
from moe_pipeline.model.nano.refinement_unet import RefinementUNet
from moe_pipeline.model.sam.foundation import SamFoundation, build_foundation
from moe_pipeline.presets import load_preset


def refinement_of(foundation: SamFoundation) -> RefinementUNet:
    network = foundation.mask_decoder.refinement_unet
    assert network is not None
    return network


def small_nano(high_res_chans: int) -> FoundationConfig:
    """The nano foundation's kinds of parts, in small."""
    config = load_preset("nano").config
    sizes: dict[str, Any] = {"img_size": 32, "embed_dim": 96, "depth": 1, "num_heads": 2, "out_chans": 96}
    return replace(
        config,
        encoder=replace(config.encoder, **sizes, high_res_chans=high_res_chans),
        prompt=replace(config.prompt, embed_dim=96),
        decoder=replace(
            config.decoder, transformer_dim=96, num_heads=2, mlp_dim=32, ranked_clicks=int(high_res_chans > 0)
        ),
    )


def answer(foundation: SamFoundation, image: torch.Tensor) -> torch.Tensor:
    embedding = foundation.image_encoder(image)
    clicks = torch.tensor([[[9.0, 20.0, 13.0], [25.0, 6.0, 7.0]]]), torch.tensor([[1, 0]])
    mask = torch.linspace(-3, 3, 16**3).reshape(1, 1, 16, 16, 16)
    sparse, dense = foundation.prompt_encoder(points=clicks, mask=mask)
    logits: torch.Tensor = foundation.mask_decoder(embedding, sparse, dense)[0]
    return logits


def test_cells_stand_where_the_decoder_duplicates() -> None:
    x, y, z = torch.meshgrid(*[torch.arange(8.0)] * 3, indexing="ij")
    grid = torch.stack([x, y, z])[None]  # each low-resolution voxel says where it is
    voxels = pack(grid).permute(0, 2, 3, 4, 1).reshape(8, 8, 8, 3)  # 8 tokens, octants, octants of octants
    for token in range(8):
        for octant in range(8):
            for sub in range(8):
                bits = [(n >> 2 & 1, n >> 1 & 1, n & 1) for n in (token, octant, sub)]
                place = [4 * t + 2 * o + s for t, o, s in zip(*bits, strict=True)]
                assert voxels[token, octant, sub].tolist() == place


def test_unpack_is_the_inverse_of_pack() -> None:
    grid = torch.randn(2, 3, 16, 16, 16)
    torch.testing.assert_close(unpack(pack(grid)), grid, rtol=0, atol=0)


def test_prompt_details_know_answer_and_clicks() -> None:
    mask = torch.zeros(1, 1, 16, 16, 16)
    mask[0, 0, 3, 5, 7] = 40.0
    clicks = torch.tensor(
        [[[8.5, 8.5, 8.5], [28.5, 4.5, 16.5]]]
    )  # centres of the low-resolution voxels (4, 4, 4) and (14, 2, 8)
    prompt_features = prompt_features_per_voxel((clicks, torch.tensor([[1, 0]])), mask, 1, 16, 2)
    assert prompt_features.shape == (1, 64 * PROMPT_FEATURES, 4, 4, 4)
    grid = unpack(prompt_features)[0].permute(1, 2, 3, 0)  # (16, 16, 16, PROMPT_DETAILS)
    assert grid[3, 5, 7, 0] == pytest.approx(1, abs=1e-6)
    assert grid[..., 0].count_nonzero() == 1
    assert grid[4, 4, 4, 1:4].tolist() == pytest.approx([1, 1, 1])
    assert grid[14, 2, 8, 4:7].tolist() == pytest.approx([1, 1, 1])
    assert grid[6, 4, 4, 2].item() == pytest.approx(torch.tensor(-(4.0**2) / (2 * 4.0**2)).exp().item())
    assert grid[4, 4, 4, 5] < 0.1


def test_new_details_change_nothing_until_they_are_trained() -> None:
    torch.manual_seed(0)
    plain, with_high_res = build_foundation(small_nano(0)), build_foundation(small_nano(16))
    with_high_res.load_state_dict(plain.state_dict(), strict=False)
    image = torch.randn(1, 1, 32, 32, 32)
    torch.testing.assert_close(answer(with_high_res, image), answer(plain, image))
    torch.nn.init.ones_(refinement_of(with_high_res).leave.weight)
    assert not torch.allclose(answer(with_high_res, image), answer(plain, image))


def test_details_are_the_same_with_and_without_gradients() -> None:
    torch.manual_seed(1)
    foundation = build_foundation(small_nano(16))
    torch.nn.init.normal_(refinement_of(foundation).leave.weight)
    image = torch.randn(2, 1, 32, 32, 32)
    learning = answer(foundation, image[:1])
    learning.square().mean().backward()
    assert foundation.image_encoder.pyramid is not None
    learnt = foundation.image_encoder.pyramid.skip.weight.grad
    assert isinstance(learnt, torch.Tensor)
    assert learnt.abs().sum() > 0
    with torch.no_grad():
        torch.testing.assert_close(answer(foundation, image[:1]), learning, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_details_are_the_same_in_bf16_but_for_rounding() -> None:
    torch.manual_seed(5)
    encoder = build_foundation(small_nano(16)).image_encoder
    image = torch.randn(1, 1, 32, 32, 32)
    exact = encoder(image)
    encoder.compute_in(torch.bfloat16)
    rounded = encoder(image)
    assert rounded.dtype == torch.float32
    assert 0 < (rounded - exact).norm() < 0.05 * exact.norm()


def test_the_refinement_unet_starts_at_zero_and_sees_the_surroundings() -> None:
    torch.manual_seed(2)
    network = RefinementUNet(7, 8)
    voxels = torch.randn(1, 16, 16, 16, 7, requires_grad=True)
    assert network(voxels).count_nonzero() == 0
    torch.nn.init.normal_(network.leave.weight)
    network(voxels)[0, 8, 8, 8].sum().backward()
    assert voxels.grad is not None
    assert voxels.grad[0, 8, 8, 13].abs().sum() > 0


def test_the_gate_does_not_look_at_details() -> None:
    embedding, dense = torch.randn(1, 96 + 1024, 4, 4, 4), torch.randn(2, 96 + 448, 4, 4, 4)
    sparse = torch.randn(2, 3, 96)
    clicks = torch.rand(2, 2, 3) * 32, torch.ones(2, 2, dtype=torch.long)
    wide = gate_features(embedding, sparse, dense, clicks, (32,) * 3)
    assert wide.shape == (2, 5 * 96)
    torch.testing.assert_close(wide, gate_features(embedding[:, :96], sparse, dense[:, :96], clicks, (32,) * 3))


def sequence(foundation: SamFoundation, n_clicks: int, mask: torch.Tensor | None) -> Candidates:
    clicks = torch.rand(2, n_clicks, 3, generator=torch.Generator().manual_seed(3)) * 32
    sparse, dense = foundation.prompt_encoder(points=(clicks, torch.ones(2, n_clicks, dtype=torch.long)), mask=mask)
    embedding = foundation.image_encoder(torch.linspace(-1, 1, 32**3).reshape(1, 1, 32, 32, 32))
    candidates = foundation.mask_decoder.candidates(embedding, sparse, dense)
    logits, iou = foundation.mask_decoder(embedding, sparse, dense)
    assert logits.shape == (2, 1, 16, 16, 16)
    torch.testing.assert_close((logits, iou), candidates.answer(), rtol=0, atol=0)
    return candidates


@torch.no_grad()
def test_one_click_is_answered_by_the_mask_that_the_mask_ranker_prefers() -> None:
    torch.manual_seed(4)
    foundation = build_foundation(small_nano(16))
    none = torch.zeros(2, 1, 16, 16, 16)
    for mask in (None, none):  # no earlier answer, either way
        first = sequence(foundation, 1, mask)
        assert first.preference is not None
        assert first.chosen.tolist() == (1 + first.preference.argmax(1)).tolist()
    assert sequence(foundation, 2, none).chosen.tolist() == [0, 0]
    one_answered = torch.stack([none[0], none[0] - 2])
    assert sequence(foundation, 1, one_answered).chosen[1] == 0
    assert sequence(foundation, 1, one_answered).chosen[0] > 0


@torch.no_grad()
def test_so_many_clicks_are_answered_by_choice_and_more_by_mask_0() -> None:
    torch.manual_seed(4)
    config = small_nano(16)
    foundation = build_foundation(replace(config, decoder=replace(config.decoder, ranked_clicks=3)))
    answered = torch.full((2, 1, 16, 16, 16), -2.0)
    for n_clicks in (2, 3):
        chosen = sequence(foundation, n_clicks, answered)
        assert chosen.preference is not None
        assert chosen.chosen.tolist() == (1 + chosen.preference.argmax(1)).tolist()
    assert sequence(foundation, 4, answered).chosen.tolist() == [0, 0]
    assert sequence(foundation, 1, answered).chosen.tolist() == [0, 0]


def test_the_choice_needs_details() -> None:
    with pytest.raises(ValueError, match="ranked_clicks needs high_res_chans"):
        replace(small_nano(0), decoder=replace(small_nano(0).decoder, ranked_clicks=1))


def test_details_need_a_conv_stem() -> None:
    with pytest.raises(ValueError, match="high_res_chans needs a conv stem"):
        EncoderConfig(img_size=32, patch_size=8, embed_dim=48, depth=1, num_heads=2, out_chans=48, high_res_chans=16)


def test_details_come_in_eights() -> None:
    with pytest.raises(ValueError, match=r"high_res_chans must be 0, 16, 24, .*got 12"):
        small_nano(12)
