"""The encoder against the slow, direct computation of the same thing."""

import importlib.util
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from moe_pipeline.model.config import EncoderConfig
from moe_pipeline.model.sam import attention
from moe_pipeline.model.sam.image_encoder import ImageEncoder
from moe_pipeline.model.sam.relative_positions import relative_table

Encode = Callable[[dict[str, Tensor], dict[str, object], Tensor], Tensor]

BASE = EncoderConfig(
    img_size=10, patch_size=2, embed_dim=24, depth=3, num_heads=2, out_chans=12, use_rel_pos=True, window_size=9
)
CONFIGS = {
    "one padded window": replace(BASE, global_attn_indexes=(1,)),
    "window is the grid": replace(BASE, window_size=5),
    "windows fit": replace(BASE, img_size=16, window_size=4, global_attn_indexes=(2,)),
    "last windows padded": replace(BASE, img_size=16, window_size=3),
    "last windows nearly empty": replace(BASE, img_size=14, window_size=6),
    "large and partly padded": replace(BASE, img_size=20, window_size=8, global_attn_indexes=(0,)),
    "no bias": replace(BASE, qkv_bias=False),
    "no relative positions": replace(BASE, img_size=14, use_rel_pos=False, window_size=4),
    "no relative positions, one window": replace(BASE, use_rel_pos=False),
    "no absolute positions": replace(BASE, use_abs_pos=False, window_size=0),
}


@pytest.fixture(scope="module")
def encode_directly() -> Encode:
    spec = importlib.util.spec_from_file_location("direct_encoder", Path(__file__).with_name("direct_encoder.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    function: Encode = module.encode_directly
    return function


def make_encoder(config: EncoderConfig, dtype: torch.dtype = torch.float32) -> tuple[ImageEncoder, Tensor]:
    """An encoder none of whose parameters is zero, and a batch of two images."""
    torch.manual_seed(0)
    encoder = ImageEncoder(config).to(dtype)
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return encoder, torch.randn(2, 1, *[config.img_size] * 3, dtype=dtype)


@pytest.mark.parametrize("large_window", [1, 10**6], ids=["by head", "at once"])
@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())
@torch.no_grad()
def test_equals_direct_computation(
    config: EncoderConfig, large_window: int, encode_directly: Encode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attention, "_LARGE_WINDOW", large_window)
    encoder, images = make_encoder(config)
    expected = encode_directly(encoder.state_dict(), asdict(config), images)
    assert (encoder(images) - expected).abs().max().item() <= 2e-5
    with torch.enable_grad():
        assert (encoder(images) - expected).abs().max().item() <= 2e-5


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())
def test_gradients_equal_those_of_direct_computation(config: EncoderConfig, encode_directly: Encode) -> None:
    encoder, images = make_encoder(replace(config, depth=2))
    images.requires_grad_()
    towards = torch.randn(2, config.out_chans, *[config.grid_size] * 3)
    names, parameters = zip(*encoder.named_parameters(), strict=True)
    found = torch.autograd.grad((encoder(images) * towards).sum(), (images, *parameters))
    direct = encode_directly(dict(encoder.named_parameters()), asdict(encoder.config), images)
    expected = torch.autograd.grad((direct * towards).sum(), (images, *parameters))
    for name, one, other in zip(("image", *names), found, expected, strict=True):
        scale = other.abs().max().item() + 1e-3
        assert (one - other).abs().max().item() <= 1e-4 * scale, name


@torch.no_grad()
def test_batch_of_two_is_two_singles() -> None:
    encoder, images = make_encoder(BASE)
    assert torch.equal(encoder(images), torch.cat([encoder(images[:1]), encoder(images[1:])]))


@torch.no_grad()
def test_bf16_error_is_not_larger_than_under_autocast(encode_directly: Encode) -> None:
    encoder, images = make_encoder(replace(BASE, embed_dim=96, num_heads=4, global_attn_indexes=(1,)))
    exact = encoder(images)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        autocast = encode_directly(encoder.state_dict(), asdict(encoder.config), images)
    encoder.compute_in(torch.bfloat16)
    fast = encoder(images)
    assert fast.dtype == torch.float32
    assert ((fast - exact).norm() / exact.norm()).item() <= 1.05 * ((autocast - exact).norm() / exact.norm()).item()


def test_tables_of_another_length_are_interpolated(reference: dict[str, Tensor], small: torch.nn.Module) -> None:
    table = dict(small.named_parameters())["image_encoder.blocks.0.attn.rel_pos_d"]
    for size in (12, 14, 17):
        expected = reference[f"get_rel_pos/{size}"]
        assert (relative_table(table, size) - expected).abs().max().item() <= 1e-6


@pytest.mark.parametrize("shape", [(1, 1, 10, 10, 9), (1, 2, 10, 10, 10), (1, 10, 10, 10), (0, 1, 10, 10, 10)])
def test_images_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"image must have shape \(B, 1, 10, 10, 10\), got"):
        make_encoder(BASE)[0](torch.zeros(shape))
