"""SegVol computed the way its published code computes it, one step after another, from a state dict.

It shares no code with the package. Axes are (z, y, x).
"""

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

Weights = Mapping[str, Tensor]


def encode_directly(weights: Weights, n_heads: int, patch: tuple[int, int, int], image: Tensor) -> Tensor:
    """Image (B, 1, D, H, W) -> embedding (B, C, d, h, w); weights of the image encoder alone."""
    d, h, w = (side // edge for side, edge in zip(image.shape[2:], patch, strict=True))
    p, q, r = patch
    rows = image.reshape(-1, 1, d, p, h, q, w, r).permute(0, 2, 4, 6, 3, 5, 7, 1).reshape(len(image), d * h * w, -1)
    x = _linear(weights, "patch_embedding.patch_embeddings.1", rows) + weights["patch_embedding.position_embeddings"]
    n_layers = len({name.split(".")[1] for name in weights if name.startswith("blocks.")})
    for layer in range(n_layers):
        block = _part(weights, f"blocks.{layer}.")
        x = x + _self_attention(block, _norm(block, "norm1", x), n_heads)
        hidden = F.gelu(_linear(block, "mlp.linear1", _norm(block, "norm2", x)))
        x = x + _linear(block, "mlp.linear2", hidden)
    return _norm(weights, "norm", x).transpose(1, 2).reshape(len(image), -1, d, h, w)


def decode_directly(
    weights: Weights,
    positions: Tensor,
    n_heads: int,
    embedding: Tensor,
    sparse: Tensor,
    dense: Tensor,
    text: Tensor | None = None,
) -> Tensor:
    """Low-resolution logits of mask 0, (P, 1, 4d, 4h, 4w).

    Args:
        weights: of the mask decoder alone.
        positions: (1, C, d, h, w).
        n_heads: of all attentions.
        embedding: (1, C, d, h, w).
        sparse: (P, n, C).
        dense: (P, C, 1, 1, 1).
        text: (P, C).
    """
    n_prompts, grid = len(sparse), embedding.shape[2:]
    own = torch.cat([weights["iou_token.weight"], weights["mask_tokens.weight"]])
    tokens = torch.cat([own.expand(n_prompts, -1, -1), sparse], dim=1)
    image = torch.repeat_interleave(embedding, n_prompts, dim=0) + dense
    image = image.flatten(2).permute(0, 2, 1)  # (P, N, C)
    where = torch.repeat_interleave(positions, n_prompts, dim=0).flatten(2).permute(0, 2, 1)
    tokens, image = _two_way(_part(weights, "transformer."), n_heads, tokens, image, where)
    image = image.transpose(1, 2).reshape(n_prompts, -1, *grid)
    x = F.conv_transpose3d(image, weights["output_upscaling.0.weight"], weights["output_upscaling.0.bias"], 2)
    x = F.layer_norm(x, x.shape[1:], weights["output_upscaling.1.weight"], weights["output_upscaling.1.bias"])
    x = F.conv_transpose3d(F.gelu(x), weights["output_upscaling.3.weight"], weights["output_upscaling.3.bias"], 2)
    x = F.gelu(x)
    kernels = [_mlp(_part(weights, f"output_hypernetworks_mlps.{i}."), tokens[:, 1 + i]) for i in range(4)]
    _mlp(_part(weights, "iou_prediction_head."), tokens[:, 0])
    masks = (torch.stack(kernels, dim=1) @ x.flatten(2)).reshape(n_prompts, 4, *x.shape[2:])
    if text is not None:
        aligned = _linear(weights, "txt_align_upscaled_embedding", text)[:, None]  # (P, 1, C/8)
        alike = (aligned @ x.flatten(2)).reshape(n_prompts, 1, *x.shape[2:])
        masks = masks + alike.repeat(1, 4, 1, 1, 1)
    return masks[:, :1]


def _two_way(weights: Weights, n_heads: int, prompts: Tensor, image: Tensor, where: Tensor) -> tuple[Tensor, Tensor]:
    tokens = prompts
    for layer in range(2):
        block = _part(weights, f"layers.{layer}.")
        if layer == 0:
            tokens = _attention(block, "self_attn", n_heads, tokens, tokens, tokens)
        else:
            placed = tokens + prompts
            tokens = tokens + _attention(block, "self_attn", n_heads, placed, placed, tokens)
        tokens = _norm(block, "norm1", tokens)
        seen = _attention(block, "cross_attn_token_to_image", n_heads, tokens + prompts, image + where, image)
        tokens = _norm(block, "norm2", tokens + seen)
        hidden = _linear(block, "mlp.lin2", F.relu(_linear(block, "mlp.lin1", tokens)))
        tokens = _norm(block, "norm3", tokens + hidden)
        told = _attention(block, "cross_attn_image_to_token", n_heads, image + where, tokens + prompts, tokens)
        image = _norm(block, "norm4", image + told)
    seen = _attention(weights, "final_attn_token_to_image", n_heads, tokens + prompts, image + where, image)
    return _norm(weights, "norm_final_attn", tokens + seen), image


def _attention(weights: Weights, name: str, n_heads: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    projected = [_linear(weights, f"{name}.{part}_proj", x) for part, x in (("q", q), ("k", k), ("v", v))]
    q, k, v = (x.reshape(len(x), x.shape[1], n_heads, -1).transpose(1, 2) for x in projected)
    logits = (q @ k.transpose(2, 3)) / q.shape[-1] ** 0.5
    mixed = logits.softmax(dim=-1) @ v
    return _linear(weights, f"{name}.out_proj", mixed.transpose(1, 2).flatten(2))


def _self_attention(weights: Weights, x: Tensor, n_heads: int) -> Tensor:
    qkv = F.linear(x, weights["attn.qkv.weight"]).reshape(*x.shape[:2], 3, n_heads, -1)
    q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # each (B, heads, n, head)
    logits = torch.einsum("blxd,blyd->blxy", q, k) * q.shape[-1] ** -0.5
    mixed = torch.einsum("bhxy,bhyd->bhxd", logits.softmax(dim=-1), v)
    return _linear(weights, "attn.out_proj", mixed.transpose(1, 2).flatten(2))


def _mlp(weights: Weights, x: Tensor) -> Tensor:
    for layer in range(3):
        x = _linear(weights, f"layers.{layer}", x)
        x = F.relu(x) if layer < 2 else x
    return x


def _linear(weights: Weights, name: str, x: Tensor) -> Tensor:
    return F.linear(x, weights[f"{name}.weight"], weights[f"{name}.bias"])


def _norm(weights: Weights, name: str, x: Tensor) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], weights[f"{name}.weight"], weights[f"{name}.bias"])


def _part(weights: Weights, prefix: str) -> Weights:
    return {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}
