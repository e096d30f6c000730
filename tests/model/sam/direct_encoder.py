"""The image encoder computed the long way: real padding, every logit, one step after another.

Slow and simple on purpose. It shares no code with the package; it reads a state dict with upstream's names.
"""

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F


def encode_directly(weights: dict[str, Tensor], config: dict[str, Any], image: Tensor) -> Tensor:
    """Image (B, 1, S, S, S) -> embedding (B, out, g, g, g); `weights` and `config` are of the image encoder alone."""
    x = F.conv3d(image, weights["patch_embed.proj.weight"], weights["patch_embed.proj.bias"], config["patch_size"])
    x = x.permute(0, 2, 3, 4, 1)  # (B, g, g, g, C)
    if config.get("use_abs_pos", True):
        x = x + weights["pos_embed"]
    for layer in range(config["depth"]):
        block = {k.removeprefix(f"blocks.{layer}."): v for k, v in weights.items() if k.startswith(f"blocks.{layer}.")}
        window = 0 if layer in config["global_attn_indexes"] else config["window_size"]
        x = _block(block, x, config["num_heads"], window, config["use_rel_pos"])
    x = F.conv3d(x.permute(0, 4, 1, 2, 3), weights["neck.0.weight"])  # (B, out, g, g, g)
    x = _norm_channels(x, weights["neck.1.weight"], weights["neck.1.bias"])
    x = F.conv3d(x, weights["neck.2.weight"], padding=1)
    return _norm_channels(x, weights["neck.3.weight"], weights["neck.3.bias"])


def _block(weights: dict[str, Tensor], x: Tensor, n_heads: int, window: int, use_rel_pos: bool) -> Tensor:
    width, grid = (x.shape[-1],), x.shape[1]
    shortcut = x
    x = F.layer_norm(x, width, weights["norm1.weight"], weights["norm1.bias"], 1e-6)
    if window:
        n = math.ceil(grid / window)
        x = F.pad(x, (0, 0, *[0, n * window - grid] * 3))  # (B, n w, n w, n w, C)
        x = x.reshape(-1, n, window, n, window, n, window, *width).permute(0, 1, 3, 5, 2, 4, 6, 7)
        x = _attention(weights, x.reshape(-1, window, window, window, *width), n_heads, use_rel_pos)
        x = x.reshape(-1, n, n, n, window, window, window, *width).permute(0, 1, 4, 2, 5, 3, 6, 7)
        x = x.reshape(-1, n * window, n * window, n * window, *width)[:, :grid, :grid, :grid]
    else:
        x = _attention(weights, x, n_heads, use_rel_pos)
    x = shortcut + x
    hidden = F.layer_norm(x, width, weights["norm2.weight"], weights["norm2.bias"], 1e-6)
    hidden = F.gelu(F.linear(hidden, weights["mlp.lin1.weight"], weights["mlp.lin1.bias"]))
    return x + F.linear(hidden, weights["mlp.lin2.weight"], weights["mlp.lin2.bias"])


def _attention(weights: dict[str, Tensor], x: Tensor, n_heads: int, use_rel_pos: bool) -> Tensor:
    batch, size, _, _, width = x.shape
    n = size**3
    qkv = F.linear(x, weights["attn.qkv.weight"], weights.get("attn.qkv.bias"))  # (B, s, s, s, 3C)
    qkv = qkv.reshape(batch, n, 3, n_heads, -1).permute(2, 0, 3, 1, 4)
    q, k, v = qkv.reshape(3, batch * n_heads, n, -1).unbind(0)  # each (B heads, n, head)
    logits = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)  # (B heads, n, n)
    if use_rel_pos:
        logits = _add_relative_positions(logits, q, weights, size)
    x = (logits.softmax(dim=-1) @ v).reshape(batch, n_heads, size, size, size, -1)
    x = x.permute(0, 2, 3, 4, 1, 5).reshape(batch, size, size, size, width)
    return F.linear(x, weights["attn.proj.weight"], weights["attn.proj.bias"])


def _add_relative_positions(logits: Tensor, q: Tensor, weights: dict[str, Tensor], size: int) -> Tensor:
    """Logit of query (d, h, w) and key (i, j, k): + q[d,h,w].Rd[d,k] + q[d,h,i].Rh[h,k] + q[d,h,j].Rw[j,k]."""
    query = q.reshape(-1, size, size, size, q.shape[-1])
    along_d = torch.einsum("bdhwc,dkc->bdhwk", query, _table(weights["attn.rel_pos_d"], size))
    along_h = torch.einsum("bdhwc,hkc->bdhwk", query, _table(weights["attn.rel_pos_h"], size))
    along_w = torch.einsum("bdhwc,wkc->bdhwk", query, _table(weights["attn.rel_pos_w"], size))
    cubes = logits.reshape(-1, *[size] * 6)  # (B heads, d, h, w, i, j, k)
    cubes = (
        cubes
        + along_d[:, :, :, :, None, None, :]  # [d, h, w, k]
        + along_h[:, :, :, None, :, None, :]  # [d, h, i, k]
        + along_w[:, :, :, None, None, :, :]  # [d, h, j, k]
    )
    return cubes.reshape(logits.shape)


def _table(table: Tensor, size: int) -> Tensor:
    """(L, head) -> (size, size, head), by query and key index."""
    table = F.interpolate(table.T[None], size=2 * size - 1, mode="linear")[0].T
    rows = [table[size - 1 + i - torch.arange(size, device=table.device)] for i in range(size)]
    return torch.stack(rows)


def _norm_channels(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    mean = x.mean(dim=1, keepdim=True)
    variance = ((x - mean) ** 2).mean(dim=1, keepdim=True)
    x = (x - mean) / torch.sqrt(variance + 1e-6)
    return x * weight[:, None, None, None] + bias[:, None, None, None]
