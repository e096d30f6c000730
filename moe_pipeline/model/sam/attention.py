"""Attention of the image encoder within windows of a cube of tokens; see `relative_positions` for its arithmetic."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from moe_pipeline.model.cpu_kernels import affine
from moe_pipeline.model.layers import linear
from moe_pipeline.model.sam.relative_positions import Extent, RelativeBias, constant_bias, relative_bias

_LARGE_WINDOW = 256  # tokens, from which on it pays to go through the heads one by one


class RelativeAttention(nn.Module):
    """Multi-head self-attention within windows of a cube of tokens.

    Args:
        width: channels of a token.
        num_heads: attention heads.
        qkv_bias: whether queries, keys and values have a bias.
        grid_size: tokens along each axis of the cube.
        window_size: edge of a window in tokens; 0: one window, the whole cube.
        use_rel_pos: whether relative positions are added.
    """

    def __init__(
        self, *, width: int, num_heads: int, qkv_bias: bool, grid_size: int, window_size: int, use_rel_pos: bool
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.window_size = window_size or grid_size
        self.qkv = nn.Linear(width, 3 * width, bias=qkv_bias)
        self.proj = nn.Linear(width, width)
        self.use_rel_pos = use_rel_pos
        if use_rel_pos:
            table = (2 * self.window_size - 1, width // num_heads)
            self.rel_pos_d = nn.Parameter(torch.zeros(table))
            self.rel_pos_h = nn.Parameter(torch.zeros(table))
            self.rel_pos_w = nn.Parameter(torch.zeros(table))

    def forward(self, tokens: Tensor) -> Tensor:
        """Attend; tokens and result (B, X, Y, Z, C)."""
        grid: Extent = (tokens.shape[1], tokens.shape[2], tokens.shape[3])
        rows = tokens.flatten(1, 3)  # (B, N, C)
        padded = any(size % self.window_size for size in grid)
        if padded:
            rows = F.pad(rows, (0, 0, 0, 1))  # (B, N + 1, C), the last one stands for all padding
        qkv = linear(self.qkv, rows)  # (B, N or N + 1, 3C)
        regions = list(_regions(grid, self.window_size))
        if len(regions) == 1 and regions[0][1] == grid:
            return linear(self.proj, self._attend(qkv, grid).reshape(tokens.shape))
        n_tokens = tokens.shape[1:4].numel()
        cube, padding = qkv[:, :n_tokens].reshape(*tokens.shape[:4], -1), qkv[:, n_tokens:]
        attended = qkv.new_empty(tokens.shape)
        for place, extent in regions:
            attended[place] = self._attend_region(cube[place], padding, extent)
        return linear(self.proj, attended)

    def _attend_region(self, qkv: Tensor, padding: Tensor, extent: Extent) -> Tensor:
        """Attend in equal windows of `extent` that fill a region.

        Args:
            qkv: (B, X, Y, Z, 3C).
            padding: (B, 0 or 1, 3C), what the padding token became.
            extent: edges of a window's real tokens.

        Returns:
            (B, X, Y, Z, C).
        """
        d, h, w = extent
        x, y, z = (size // edge for size, edge in zip(qkv.shape[1:4], extent, strict=True))
        windows = qkv.reshape(-1, x, d, y, h, z, w, qkv.shape[-1]).permute(0, 1, 3, 5, 2, 4, 6, 7)
        rows = windows.reshape(-1, d * h * w, qkv.shape[-1])  # (B x y z, n, 3C)
        if d * h * w < self.window_size**3:
            padding = padding.repeat_interleave(x * y * z, dim=0)  # (B x y z, 1, 3C)
            rows = torch.cat([rows, padding], dim=1)  # (B x y z, n + 1, 3C)
        mixed = self._attend(rows, extent).reshape(-1, x, y, z, d, h, w, qkv.shape[-1] // 3)
        return mixed.permute(0, 1, 4, 2, 5, 3, 6, 7).reshape(*qkv.shape[:4], -1)

    def _attend(self, qkv: Tensor, extent: Extent) -> Tensor:
        """Attend within windows: (W, n, 3C), or (W, n + 1, 3C) with a padding token last, -> (W, n, C)."""
        n = math.prod(extent)
        parts = qkv.reshape(*qkv.shape[:2], 3, self.num_heads, -1)
        q, k, v = parts.permute(2, 0, 3, 1, 4).unbind(0)  # each (W, heads, n or n + 1, head)
        bias = None
        if self.use_rel_pos:
            tables = (self.rel_pos_d, self.rel_pos_h, self.rel_pos_w)
            bias = relative_bias(q, tables, extent, self.window_size)
        elif k.shape[2] > n:
            bias = constant_bias(q, extent, self.window_size)
        if n >= _LARGE_WINDOW and runs_eagerly_on_cpu(q):
            return attend_by_head(q[:, :, :n], k, v, bias)
        mask = None if bias is None else bias.whole().to(q.dtype)
        mixed = F.scaled_dot_product_attention(q[:, :, :n], k, v, attn_mask=mask)  # (W, heads, n, head)
        return mixed.transpose(1, 2).flatten(2)  # (W, n, C)


def runs_eagerly_on_cpu(tokens: Tensor) -> bool:
    """Whether these go through code for a CPU that makes no gradients."""
    return tokens.device.type == "cpu" and not torch.is_grad_enabled() and not torch.compiler.is_compiling()


def attend_by_head(q: Tensor, k: Tensor, v: Tensor, bias: RelativeBias | None) -> Tensor:
    """Attention for a CPU, one head after another: their logits stay in its cache, and the products are oneDNN's.

    Args:
        q: (W, heads, n, head).
        k: (W, heads, keys, head), keys n or n + 1.
        v: as k.
        bias: of the same windows.

    Returns:
        (W, n, C).
    """
    n_windows, n_heads, n, width = q.shape
    q = q * width**-0.5
    if bias is not None:
        q, k = _with_query_bias(q, k, bias)
    k, v = k.contiguous(), v.transpose(2, 3).contiguous()  # (W, heads, keys, head + w), (W, heads, head, keys)
    mixed = q.new_empty(n_windows, n, n_heads, width)
    for window in range(n_windows):
        for head in range(n_heads):
            logits = affine(q[window, head], k[window, head], None).float()  # (n, keys)
            if bias is not None:
                bias.add_line_bias(logits, window, head)
            weights = logits.softmax(dim=-1).to(v.dtype)
            mixed[window, :, head] = affine(weights, v[window, head], None)  # (n, head)
    return mixed.flatten(2)


def _with_query_bias(q: Tensor, k: Tensor, bias: RelativeBias) -> tuple[Tensor, Tensor]:
    """Append to q the bias by query and k, and to the keys marks of their k: the product then adds it to the logits."""
    w, n = bias.extent[2], q.shape[2]
    marks = torch.eye(w, dtype=k.dtype).repeat(n // w, 1)  # (n, w), row (i, j, k) marks k
    marks = F.pad(marks, (0, 0, 0, k.shape[2] - n))  # (keys, w)
    q = torch.cat([q, bias.by_query.to(q.dtype).expand(*q.shape[:3], -1)], dim=-1)  # (W, heads, n, head + w)
    k = torch.cat([k, marks.expand(*k.shape[:3], -1)], dim=-1)  # (W, heads, keys, head + w)
    return q, k


def _regions(grid: Extent, window: int) -> Iterator[tuple[tuple[slice, ...], Extent]]:
    """Parts of the grid that equal windows fill: upstream pads the last window of each axis."""
    axes = []
    for size in grid:
        whole = size // window * window
        parts = [(slice(0, whole), window), (slice(whole, size), size - whole)]
        axes.append([(place, edge) for place, edge in parts if place.stop > place.start])
    for x, ex in axes[0]:
        for y, ey in axes[1]:
            for z, ez in axes[2]:
                yield (slice(None), x, y, z), (ex, ey, ez)
